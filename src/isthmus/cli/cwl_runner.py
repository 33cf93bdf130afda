"""`cwl-runner`: runs a CWL process on this machine, as cwltest and other callers of CWL runners expect.

The output object goes to stdout, everything else to stderr. Exit codes: 0 done; 1 a step failed, or the process or its
inputs are wrong; 33 it needs something that is not supported; 130 interrupted.
"""

import argparse
import json
import os
import sys
from typing import Any

from isthmus import __version__
from isthmus.domain.errors import IsthmusError

UNSUPPORTED = 33


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cwl-runner",
        description="Run a CWL process on this machine. `isthmus workflow run` does more: sites, resuming, reports.",
        epilog="Inputs may also be given as --NAME VALUE after the process.",
        allow_abbrev=False,
    )
    parser.add_argument("process", help="a CWL file, its URL, or FILE#NAME")
    parser.add_argument("inputs", nargs="?", help="a YAML or JSON file of inputs")
    parser.add_argument("--outdir", default=".", help="where the outputs go; the current folder")
    parser.add_argument("--basedir", default="", help="relative paths of inputs are below it")
    parser.add_argument("--tmpdir-prefix", default="", help="where step folders are made")
    parser.add_argument("--quiet", action="store_true", help="tell of failures only")
    parser.add_argument("--keep-going", action="store_true", help="after a failure, go on with what does not need it")
    parser.add_argument("--engine", default="", help="the container engine: podman, docker, apptainer, charliecloud")
    parser.add_argument("--cpus", type=float, default=0.0, help="cores used at once; all")
    parser.add_argument("--version", action="version", version=f"isthmus {__version__}")
    return parser


def main(words: list[str] | None = None) -> None:
    """Run and exit."""
    options, rest = _parser().parse_known_args(words)
    if options.inputs is not None and options.inputs.startswith("--"):
        rest, options.inputs = [options.inputs, *rest], None
    try:
        code = _run(options, rest)
    except IsthmusError as error:
        _tell(error)
        code = UNSUPPORTED if error.code == "unsupported-requirement" else 1
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.exit(code)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from isthmus.workflows import running
    from isthmus.workflows.cwl import opening, results

    opened = opening.opened(options.process, options.inputs or "", rest, basedir=options.basedir)
    if not options.quiet:
        for told in opened.strange:
            print(f"cwl-runner: {told}", file=sys.stderr)
    program = opened.program
    scratch = running.Scratch(options.tmpdir_prefix)
    settings = running.HereSettings(engine=options.engine, cpus=options.cpus, stop_early=not options.keep_going)
    try:
        watcher = _watch_quietly if options.quiet else _watch
        finish = running.drive(program, opened.given, f"{scratch.path}/steps", settings, watcher)
        found = results.deliver(finish.outputs, os.path.abspath(options.outdir), owned=scratch.path)
    finally:
        program.close()
        scratch.remove()
    json.dump(found, sys.stdout, indent=4)
    sys.stdout.write("\n")
    return 1 if finish.failures else 0


def _watch(told: Any) -> None:
    if told.kind in ("started", "done", "skipped"):
        print(f"cwl-runner: {told.task}: {told.kind}", file=sys.stderr)
    else:
        _watch_quietly(told)


def _watch_quietly(told: Any) -> None:
    if told.kind == "failed":
        print(f"cwl-runner: {told.task} failed: {told.message}", file=sys.stderr)
        if told.log:
            lines = told.log.splitlines()[-10:]
            print("\n".join(f"    {line}" for line in lines), file=sys.stderr)


def _tell(error: IsthmusError) -> None:
    faults = getattr(error, "faults", ()) or (error,)
    for fault in faults:
        where = f"{fault.place}: " if fault.place else ""
        hint = f" {fault.hint}" if fault.hint else ""
        print(f"cwl-runner: {where}{fault.message}{hint}", file=sys.stderr)


if __name__ == "__main__":
    main()

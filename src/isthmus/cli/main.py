"""`isthmus`: the command line. It talks to the API only, by the SDK.

Exit codes: 0 done; 1 the server or a site refused, or a job failed; 2 the words make no sense; 3 no such thing;
4 not allowed; 5 no server answers; 70 a fault of this program; 130 interrupted. `isthmus run` and `isthmus job wait`
give the job's own code: see `isthmus.cli.endings`.

A command starts fast: the module of the noun alone is imported that the first word names, and the SDK when it runs.
"""

import os
import sys

from isthmus.cli.verbs import application
from isthmus.domain import errors


def exit_code(error: errors.IsthmusError) -> int:
    """The exit code for an error."""
    if isinstance(error, errors.Invalid):
        return 2
    if isinstance(error, errors.NotFound):
        return 3
    if isinstance(error, errors.Unauthenticated | errors.Forbidden):
        return 4
    return 5 if isinstance(error, errors.Unavailable) else 1


def tell(error: errors.IsthmusError) -> None:
    """One readable line, and one with what to do next."""
    where = f"{error.place}: " if error.place else ""
    print(f"isthmus: {where}{error.message}", file=sys.stderr)
    if error.hint:
        print(f"         {error.hint}", file=sys.stderr)
    if isinstance(error, errors.Invalid):
        for fault in error.faults[1:]:
            print(f"         {fault}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit."""
    debug = os.environ.get("ISTHMUS_DEBUG", "") not in ("", "0")
    # Else pydantic looks for plug-ins in every installed package, at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    words = sys.argv[1:] if arguments is None else arguments
    try:
        application(words)(args=words, prog_name="isthmus")
    except errors.IsthmusError as error:
        if debug:
            raise
        tell(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone, such as `head`. What Python would still flush has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if debug:
            raise
        print(f"isthmus: a fault of this program: {type(error).__name__}: {error}", file=sys.stderr)
        print("         ISTHMUS_DEBUG=1 shows where it happened.", file=sys.stderr)
        sys.exit(70)

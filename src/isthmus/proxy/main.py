"""The archive's programs, by their first word. Each imports only what it needs: a runner must start quickly."""

import sys

USAGE = """usage: python3 isthmus.pyz PROGRAM …
  proxy     answer requests on stdin               --token T --workdir W [--batch NAME]
  put       take a file from stdin                 --token T --workdir W --path P --offset N --size S [--digest D]
  get       give a file or folder on stdout        --token T --workdir W --path P --offset N
  prepare   make an entry of the cache             --token T --workdir W
  keeper    start and watch this machine's jobs    --workdir W
  run       run one attempt                        FOLDER
  rank      start one rank of an attempt           FOLDER
  shield    pass signals into a podman container   NAME PODMAN run …
"""


def main(arguments: list) -> int:
    """Run a program of the archive; its exit code."""
    name, rest = (arguments or [""])[0], arguments[1:]
    if name == "run" and rest:
        from isthmus.runner import run

        return run.main(rest)
    if name == "rank" and rest:
        from isthmus.runner import rank

        return rank.main(rest)
    if name == "shield" and rest:
        from isthmus.runner import shield

        return shield.main(rest)
    if name == "keeper":
        from isthmus.runner import keeper

        return keeper.main(rest)
    if name == "proxy":
        from isthmus.proxy import server

        return server.main(rest)
    if name in ("put", "get"):
        from isthmus.proxy import transfer

        return transfer.main(name, rest)
    if name == "prepare":
        from isthmus.proxy import prepare

        return prepare.main(rest)
    sys.stderr.write(USAGE)
    return 64  # EX_USAGE

"""The command lines that start the archive's programs at a site, and that bring the archive there.

Nothing is assumed there but sh and Python. The user's own shell, which may be csh, only starts sh: so the scripts
are single lines without quotes of the kind that it is put into, and without `!`.
"""

from dataclasses import dataclass

from isthmus.domain.errors import BadReply, IsthmusError, Refused, Unreachable
from isthmus.sites.archive import Archive

MISSING = 90  # exit status of START when the archive is not there

# $1: work folder, $2: archive's name. Paths that are not absolute lie below the home folder there.
_PATHS = 'w=$1; case $w in "~") w=$HOME;; "~/"*) w=$HOME/${w#"~/"};; /*) ;; *) w=$HOME/$w;; esac; a=$w/bin/$2; '
# $3: python, $4: a command of the batch system or "", then the program and its options. Clusters put the batch
# system on the path in the files of login shells, which a command over SSH does not get: if it is missing, a login
# shell starts the program. Those files must not read stdin, where the requests are coming in.
_START = (
    _PATHS + f'[ -f "$a" ] || exit {MISSING}; p=$3; case $p in "~/"*) p=$HOME/${{p#"~/"}};; esac; c=$4; shift 4; '
    'if [ -z "$c" ] || command -v "$c" >/dev/null 2>&1; then exec "$p" -I -S "$a" "$@" --workdir "$w"; fi; '
    "b=bash; command -v bash >/dev/null 2>&1 || b=sh; exec 3<&0 </dev/null; "
    'exec "$b" -l -c "exec \\"\\$@\\" <&3 3<&-" isthmus "$p" -I -S "$a" "$@" --workdir "$w"'
)
# $3: its size. Renamed only when it came whole: the end of a cut connection looks like the end of the file.
_INSTALL = (
    "umask 077; " + _PATHS + 't=$a.$$; mkdir -p "$w/bin" && cat > "$t" && '
    'if [ $(wc -c < "$t") -eq "$3" ]; then mv "$t" "$a"; else echo "it came in part only" >&2; rm -f "$t"; exit 1; fi'
)


@dataclass(frozen=True, slots=True)
class Launch:
    """Where the archive lies at a site, and with what it is run."""

    archive: Archive
    workdir: str  # absolute, or below the home folder there ("~/…" or relative)
    python: str = "python3"
    command: str = ""  # one of the batch system's, such as sbatch, without which a login shell starts the program

    def program(self, name: str, token: str, *options: str) -> list[str]:
        """The argv of one of the archive's programs: `proxy`, `put`, `get`, `prepare`."""
        return [
            "sh", "-c", _START, "isthmus",
            self.workdir, self.archive.name, self.python, self.command, name, "--token", token, *options,
        ]  # fmt: skip

    def install(self) -> list[str]:
        """The argv of what takes the archive on its stdin."""
        size = str(len(self.archive.data))
        return ["sh", "-c", _INSTALL, "isthmus", self.workdir, self.archive.name, size]

    def failure(self, where: str, status: int | None, stderr: str) -> IsthmusError:
        """The error for a program of the archive that ended before it said a word of ours."""
        said = f": {stderr}" if stderr else "."
        if status == MISSING:
            return BadReply(f"The proxy is not at {where} any more.", hint="Try again: it is sent anew.")
        if status == 127:
            return Unreachable(
                f"{where} has no {self.python}{said}",
                hint="Set the site's python to the path of Python 3.6 or newer there.",
                code="no-python",
            )
        if status == 126:
            return Unreachable(
                f"{self.python} can't be run at {where}{said}",
                hint="Set the site's python to the path of Python 3.6 or newer there.",
                code="no-python",
            )
        ended = "was cut off" if status is None else f"ended (exit status {status}) before it answered"
        hint = ""
        if "SyntaxError" in stderr or "unrecognized option" in stderr or "unknown option" in stderr.lower():
            hint = f"Is {self.python} there Python 3.6 or newer? Set the site's python."
        return Unreachable(f"The proxy at {where} {ended}{said}", hint=hint, code="proxy-failed")

    def install_failure(self, where: str, status: int | None, stderr: str) -> IsthmusError:
        """The error for an archive that could not be put there."""
        place = f"{self.workdir}/bin at {where}"
        if any(text in stderr for text in ("No space left", "quota exceeded", "Quota exceeded")):
            return Refused(f"The disk is full: {place} takes nothing: {stderr}", code="disk-full")
        if status is None:
            return Unreachable(f"The connection to {where} was lost while it got its proxy.", code="connection-lost")
        return Unreachable(
            f"The proxy could not be put into {place}: {stderr or f'exit status {status}'}",
            hint="Set the site's workdir to a folder that you may write to.",
            code="no-workdir",
        )

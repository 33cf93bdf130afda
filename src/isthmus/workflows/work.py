"""Work: what one run of a step needs, in terms that any place understands. Front ends write it, places do it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.workflows.hidden import Hidden


class StepFailed(Exception):
    """A step has failed, and won't do better by itself. The message is for people; ``log``: the end of what it said;
    ``rest``: where all of that is."""

    def __init__(self, message: str, *, log: str = "", rest: str = "", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.log = log
        self.rest = rest
        self.exit_code = exit_code


class InputsGone(StepFailed):
    """What the step reads has gone from where it was left. ``places``: the locations."""

    def __init__(self, message: str, places: tuple[str, ...]) -> None:
        super().__init__(message)
        self.places = places


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a step asks of a machine. Sizes are bytes, times seconds; 0 is no wish."""

    cpus: float = 1.0
    mem: int = 0
    gpus: int = 0
    tmp: int = 0
    out: int = 0
    time: float = 0.0  # it is ended after that


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Something that lies in the step's folders before it starts.

    ``target`` is a path as the command sees it. Its content is at ``location``, or is ``text``, or it is an
    empty folder where both are None.
    """

    target: str
    location: str | None = None
    text: str | None = None
    writable: bool = False  # the step's own copy
    in_place: bool = False  # the original itself, to be changed
    folder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image: a reference to pull, a file to load or import, or the text of a Dockerfile."""

    reference: str = ""
    load: str = ""
    imported: str = ""
    dockerfile: str = ""
    required: bool = True  # else the step may run without it


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A command and all that it needs. Paths are as the command sees them: see `Folders`."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""
    stdout: str = ""  # within the work folder
    stderr: str = ""
    placed: tuple[Placed, ...] = ()
    image: Image | None = None
    need: Need = Need()
    network: bool = False
    reads: tuple[str, ...] = ()  # paths of this machine that are read where they lie
    work: str = ""  # the work folder, as the command sees it
    hidden: "Hidden | None" = None  # texts that must not be shown
    success: tuple[int, ...] = (0,)  # the exit codes of a good end


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a step runs, as its command sees it. ``inputs`` holds what can't be read where it lies."""

    work: str
    tmp: str
    inputs: str
    own_paths: bool = True  # files of this machine are seen by their own paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    exit_code: int
    signal: int = 0
    timed_out: bool = False
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mem: int = 0
    log: str = ""  # the end of what it wrote to stderr, or to stdout where that is kept nowhere
    rest: str = ""  # where all of that is


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftEntry:
    """A file or folder that a job left at its site. ``path`` is relative to the work folder."""

    path: str
    location: str
    size: int
    is_folder: bool
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a command left: the work folder on this machine, or what a job's outputs are at its site.

    ``texts``: the text of small files at the site, of which `Wanted` said that they will be read.
    """

    folder: str = ""
    entries: tuple[LeftEntry, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a job must say of what it leaves: patterns of paths in its work folder. ``texts``: those that are read."""

    paths: tuple[str, ...]
    texts: tuple[str, ...] = ()

"""What the command says about itself: lines in the metrics file, and lines on stdout that begin with ``isthmus:``.

Owns both forms and how they become reports. Reads on from where it was, in bounded pieces, whole lines only.
"""

import json
import os

MARK = b"isthmus:"
PIECE = 1 << 20
LONGEST_LINE = 64 * 1024
MOST_VALUES = 1000  # in one line


class Tail(object):
    """A growing file, read on from where the last look ended. With a ``mark`` only lines that hold it matter."""

    def __init__(self, path: str, mark: bytes = b"") -> None:
        self.path = path
        self.mark = mark
        self.offset = 0
        self._rest = b""
        self._skipping = False

    def lines(self, last=False):
        """Yield the lines that are new, without their ends; with ``last`` also one that has no end.

        Lines longer than LONGEST_LINE are passed over.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if os.fstat(fd).st_size < self.offset:  # the command truncated its own log: begin again
                self.offset = 0
                self._rest = b""
            while True:
                piece = os.pread(fd, PIECE, self.offset)
                if not piece:
                    break
                self.offset += len(piece)
                text = self._rest + piece
                # A log of gigabytes that says nothing to us must cost no more than one search through it.
                parts = text.split(b"\n") if self.mark in text else [text.rpartition(b"\n")[2]]
                self._rest = parts.pop()
                if self._skipping and b"\n" in piece:
                    parts = parts[1:]
                    self._skipping = False
                for line in parts:
                    if len(line) <= LONGEST_LINE:
                        yield line
                if len(self._rest) > LONGEST_LINE:
                    self._rest = b""
                    self._skipping = True
        except OSError:
            return
        finally:
            os.close(fd)
        if last and self._rest and not self._skipping:
            line, self._rest = self._rest, b""
            yield line


def parse_json(line: bytes) -> dict:
    """A line of the metrics file as the fields of reports; {} if it is none.

    ``{"loss": 0.1, "step": 3, "t": …}``; ``progress`` is a fraction or ``[done, total]``, ``message`` a text.
    """
    try:
        said = json.loads(line.decode("utf-8"))
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    return _fields(said)


def parse_text(line: bytes) -> dict:
    """A line of stdout as the fields of reports; {} if it does not begin with ``isthmus:`` or says nothing.

    ``isthmus: loss=0.12 step=3`` or ``isthmus: progress=30/100 reading the index``.
    """
    line = line.lstrip()
    if not line.startswith(MARK):
        return {}
    said: dict = {}
    words = line[len(MARK) :].decode("utf-8", "replace").split()
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not equals or not name:
            said["message"] = " ".join(words[position:])
            break
        if name == "message":
            said["message"] = " ".join([value] + words[position + 1 :])
            break
        if name == "progress" and "/" in value:
            said[name] = value.split("/", 1)
        else:
            said[name] = value
    return _fields(said)


def _fields(said):
    """``{"metrics": {…}, "progress": {…}}``: either may be missing."""
    found: dict = {}
    t = _number(said.pop("t", None))
    progress = _progress(said.pop("progress", None), said.pop("message", None))
    step = _number(said.pop("step", None))
    values = {}
    for name, value in list(said.items())[:MOST_VALUES]:
        number = _number(value)
        if number is not None and len(name) <= 200:
            values[name] = number
    if values:
        found["metrics"] = {"values": values, "step": None if step is None else int(step)}
    if progress:
        found["progress"] = progress
    if t is not None and isinstance(t, float):
        for report in found.values():
            report["t"] = t
    return found


def _progress(value, message):
    fields = {}
    if isinstance(value, list) and len(value) == 2:
        done, total = _number(value[0]), _number(value[1])
    else:
        done, total = _number(value), 1
    if _finite(done) and _finite(total):
        fields = {"done": done, "total": total}
    if isinstance(message, str) and message and (fields or value is None):
        fields["message"] = message[:500]
    return fields


def _finite(number):
    return isinstance(number, (int, float))


def _number(value):
    """A number; "nan" and the infinities stay words, for which JSON has no number. None: it is none."""
    if isinstance(value, bool) or value is None:
        return None if value is None else int(value)
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                return None
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"nan": "nan", "inf": "inf", "-inf": "-inf"}[repr(value)]
    return value if isinstance(value, (int, float)) else None

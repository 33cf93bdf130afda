"""What a job's own code calls: ``isthmus.report(loss=0.1, step=3)``. It writes one line to $ISTHMUS_REPORT.

Anything that can append a line to a file can do the same:
``echo '{"loss": 0.1, "step": 3}' >> "$ISTHMUS_REPORT"``.
"""

import json
import math
import os
import time


def report(*values, step=None, progress=None, message=None, **metrics):
    """Report metrics and progress of the running job.

    ``metrics`` are numbers by name (Python's, NumPy's scalars, tensors of one element); a dict of them may come
    first: ``report({"val/loss": 0.1}, step=3)``. ``step`` is a whole number. ``progress`` is a fraction from 0 to 1,
    or a pair ``(done, total)``, with a ``message`` if you like. Does nothing outside a job. Trouble with the file
    never reaches the caller; what is not a number raises TypeError, in a job and outside of one.
    """
    line = {}
    for mapping in values:
        for name, value in dict(mapping).items():
            line[str(name)] = _number(name, value)
    for name, value in metrics.items():
        line[name] = _number(name, value)
    if step is not None:
        line["step"] = int(_number("step", step))
    if progress is not None:
        if isinstance(progress, (tuple, list)):
            done, total = progress
            line["progress"] = [_number("progress", done), _number("progress", total)]
        else:
            line["progress"] = _number("progress", progress)
    if message is not None:
        line["message"] = str(message)
    path = os.environ.get("ISTHMUS_REPORT")
    if not path or not line:
        return
    line["t"] = round(time.time(), 3)
    data = (json.dumps(line) + "\n").encode("utf-8")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            os.write(fd, data)  # one call, so that lines of several processes don't mix
        finally:
            os.close(fd)
    except OSError:
        pass  # a full disk must not end a training run: the runner reports the disk itself


def _number(name, value):
    if isinstance(value, (str, bytes)):
        raise TypeError("report(%s=%r): a metric is a number." % (name, value))
    try:
        number = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        raise TypeError("report(%s=%r): a metric is a number." % (name, value))
    if isinstance(number, bool):
        return int(number)
    if isinstance(number, float) and not math.isfinite(number):
        return repr(number)  # "nan", "inf": JSON has no word for them
    return number

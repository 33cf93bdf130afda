"""The template of a batch script: text with ``{{names}}`` in it, which no shell writes that way."""

import re
from collections.abc import Iterable, Mapping

from isthmus.domain.errors import Invalid, nearest

_NAME = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")

# What starts the runner: a template without it starts nothing.
RUN = "run"


def check_template(text: str, names: Iterable[str], place: str = "template") -> None:
    """Raise Invalid if the template has a name that nothing fills, or does not start the runner."""
    known = sorted(names)
    for number, line in enumerate(text.splitlines(), 1):
        for match in _NAME.finditer(line):
            if match[1] not in known:
                raise Invalid(
                    f"Line {number} has {match[0]}, which is no name that can be filled in.",
                    place=place,
                    hint=nearest(match[1], known) or "There is: " + ", ".join(known) + ".",
                )
    if RUN not in (match[1] for match in _NAME.finditer(text)):
        raise Invalid("It does not start the job.", place=place, hint="Put {{run}} on its last line.")
    if not text.startswith("#!"):
        raise Invalid("Its first line does not name the shell.", place=place, hint="Begin with #!/bin/bash")


def fill(text: str, values: Mapping[str, object]) -> str:
    """The template with its names replaced; empty ones that stand alone on a line take the line with them."""
    lines = []
    for line in text.splitlines():
        alone = _NAME.fullmatch(line.strip())
        filled = _NAME.sub(lambda match: str(values[match[1]]), line)
        if filled.strip() or not alone:
            lines.append(filled)
    return "\n".join(lines) + "\n"

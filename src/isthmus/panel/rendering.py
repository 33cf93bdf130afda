"""Rendering: templates to pages, with the words and forms that all of them use.

Everything is escaped. A template marks the regions that are asked for again with `{% block NAME %}`; a request with
the header X-Region gets that block alone.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from isthmus import __version__, codec
from isthmus.domain.units import show_bytes, show_seconds
from isthmus.layers import Boxes
from isthmus.panel import words

STATIC = resources.files("isthmus.panel") / "static"
BOXES = Boxes(wide=168, high=44, across=28, down=40, margin=14)  # of graphs
MAX_TEXT = 4000  # of a message in a table


class Renderer:
    """The templates, read once."""

    def __init__(self) -> None:
        self.digest = _digest()
        self._env = Environment(
            loader=PackageLoader("isthmus.panel"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._env.filters.update(
            time=time_tag,
            bytes=lambda size: show_bytes(size) if size else "–",
            span=span_tag,
            number=show_number,
            hours=show_hours,
            money=show_money,
            short=short,
            json=lambda value: json.dumps(codec.to_plain(value), ensure_ascii=False),
        )
        self._env.globals.update(
            words=words, version=__version__, static=f"/static/{self.digest}", url=url, now=lambda: datetime.now(UTC)
        )

    def page(self, template: str, visitor: object, *, status: int = 200, region: str = "", **context: Any) -> Response:
        """The whole template, or one of its regions. ``visitor`` is the templates' own: None where nobody is known."""
        return HTMLResponse(self.text(template, region=region, visitor=visitor, **context), status_code=status)

    def text(self, template: str, *, region: str = "", **context: Any) -> str:
        """The same as text. A region that the template does not have is the whole."""
        found = self._env.get_template(template)
        block = found.blocks.get(region)
        if block is None:
            return found.render(context)
        return "".join(block(found.new_context(context)))

    def macro(self, template: str, name: str) -> Any:
        """A macro of a template, to be called from code."""
        return getattr(self._env.get_template(template).module, name)


def url(path: str, **query: Any) -> str:
    """The path with a query of what is not empty; lists become several of a name."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        values: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
        pairs.extend((name, str(one)) for one in values if one not in ("", None, False))
    return f"{path}?{urlencode(pairs)}" if pairs else path


def time_tag(moment: datetime | None, form: str = "ago") -> Markup:
    """A time: UTC for who has no JavaScript, in the reader's zone for the others, exact on hover."""
    if moment is None:
        return Markup("–")
    exact = moment.astimezone(UTC)
    shown = exact.strftime("%Y-%m-%d %H:%M")
    # A table has hundreds: put together as they are, since nothing in them is anybody's text.
    return Markup(
        f'<time datetime="{exact.isoformat(timespec="milliseconds").replace("+00:00", "Z")}" data-form="{form}"'
        f' title="{exact.strftime("%Y-%m-%d %H:%M:%S")} UTC">{shown} UTC</time>'
    )


def span_tag(begin: datetime | None, end: datetime | None = None) -> Markup:
    """How long it took; while it goes on (no end) it counts on in the browser."""
    if begin is None:
        return Markup("–")
    shown = show_seconds(max(0.0, ((end or datetime.now(UTC)) - begin).total_seconds()))
    if end is not None:
        return Markup(f'<span class="span" title="{_exact(begin)} to {_exact(end)}">{shown}</span>')
    since = begin.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup(f'<span class="span" data-since="{since}" title="since {_exact(begin)}">{shown}</span>')


def _exact(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def show_number(value: float | None) -> str:
    """A number as people read it: 5 significant digits, no more."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.5g}"


def show_hours(value: float) -> str:
    """Hours: as many digits as say something."""
    return f"{value:,.1f}" if value >= 10 or value == 0 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def show_money(value: float) -> str:
    """An amount: cents, or where there are none yet, what there is."""
    return f"{value:.2g}" if 0 < value < 0.01 else f"{value:,.2f}"


def short(text: str, length: int = 80) -> Markup:
    """The text, cut; whole on hover."""
    if len(text) <= length:
        return escape(text)
    return Markup('<span title="{}">{}…</span>').format(text[:MAX_TEXT], text[: length - 1])


def _digest() -> str:
    """Of all static files: their addresses change when they do, so browsers keep them for ever."""
    found = hashlib.sha256()
    for folder in (STATIC, STATIC / "vendor"):
        for file in sorted(folder.iterdir(), key=lambda one: one.name):
            if file.is_file():
                found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:12]

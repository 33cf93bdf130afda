"""The archive that travels to sites: proxy and runner in one file that any Python 3.6 or newer can run.

Owns what is packed and how; what the programs in it do stands in docs/site-protocol.md. How the bytes get there is
the session's business.
"""

import functools
import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isthmus.domain.errors import Invalid

_PACKAGE = Path(__file__).parent.parent
_PACKED = ("proxy", "runner")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can tell


@dataclass(frozen=True, slots=True)
class Archive:
    """``isthmus.pyz``. The same sources give the same bytes, so a site needs a new one only when they changed."""

    data: bytes
    digest: str  # the first 12 hex digits of its sha256

    @property
    def name(self) -> str:
        """Its file's name in the site's ``bin`` folder."""
        return f"isthmus-{self.digest}.pyz"


def archive(modules: Mapping[str, str] | None = None) -> Archive:
    """The packed archive, made once in a process.

    ``modules`` adds batch systems of plug-ins: name of the batch system -> import path of its module, which travels
    as ``isthmus/proxy/batch/<name>.py``. Raises Invalid if such a module can't be found as one source file.
    """
    return _pack(tuple(sorted((modules or {}).items())))


@functools.cache
def _pack(modules: tuple[tuple[str, str], ...]) -> Archive:
    files = {"isthmus/__init__.py": (_PACKAGE / "__init__.py").read_bytes()}
    files["__main__.py"] = (_PACKAGE / "proxy" / "__main__.py").read_bytes()
    for folder in _PACKED:
        for path in (_PACKAGE / folder).rglob("*.py"):
            files["isthmus/" + path.relative_to(_PACKAGE).as_posix()] = path.read_bytes()
    for name, module in modules:
        files[f"isthmus/proxy/batch/{name}.py"] = _source(name, module)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for path_inside in sorted(files):
            entry = zipfile.ZipInfo(path_inside, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, whatever packs it
            entry.compress_type = zipfile.ZIP_DEFLATED
            bundle.writestr(entry, files[path_inside])
    data = buffer.getvalue()
    return Archive(data, hashlib.sha256(data).hexdigest()[:12])


def _source(name: str, module: str) -> bytes:
    try:
        spec = importlib.util.find_spec(module)
    except ImportError as error:
        raise Invalid(f"The batch system {name!r} can't be packed: {error}.", place=module) from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise Invalid(
            f"The batch system {name!r} can't be packed: {module} is not one Python source file.",
            place=module,
            hint="Put its functions into one module that needs the standard library only.",
        )
    return Path(spec.origin).read_bytes()

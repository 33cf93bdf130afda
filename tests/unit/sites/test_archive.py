"""The archive: the same sources, the same bytes; plug-ins' batch systems travel in it."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid
from isthmus.sites.archive import _pack, archive

PLUGIN = """
STATES = {"Q": "pending"}
REASONS = {}
def probe(options):
    return {"batch": "toy 1.0", "notes": ["from a plug-in"]}
"""


def test_the_same_bytes_each_time_and_one_packing() -> None:
    _pack.cache_clear()
    first = archive()
    assert archive() is first
    _pack.cache_clear()
    again = archive()
    assert (again.data, again.digest) == (first.data, first.digest)
    assert first.digest == hashlib.sha256(first.data).hexdigest()[:12] and first.name == f"isthmus-{first.digest}.pyz"


def test_what_is_in_it() -> None:
    names = zipfile.ZipFile(io.BytesIO(archive().data)).namelist()
    assert names == sorted(names)
    assert {"__main__.py", "isthmus/__init__.py", "isthmus/proxy/main.py", "isthmus/runner/attempt.py"} <= set(names)
    assert all(name.endswith(".py") for name in names), "no compiled files, no tests"
    tops = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert tops == {"proxy", "runner"}, "nothing of the control plane"
    assert len(archive().data) < 300_000


def test_a_plug_ins_batch_system_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "isthmus_toy.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    packed = archive({"toy": "isthmus_toy"})
    assert packed.digest != archive().digest
    path = tmp_path / packed.name
    path.write_bytes(packed.data)
    request = b'{"id": 1, "verb": "probe", "options": {}}\n'
    words = [sys.executable, "-I", "-S", str(path), "proxy", "--token", "T", "--workdir", str(tmp_path / "w")]
    done = subprocess.run([*words, "--batch", "toy"], input=request, capture_output=True, check=True, timeout=60)
    assert b"toy 1.0" in done.stdout and b"from a plug-in" in done.stdout


@pytest.mark.parametrize("name", ["nowhere.to.be.found", "json.nothing", "os.path.join"])
def test_a_plug_in_that_can_not_be_found(name: str) -> None:
    with pytest.raises(Invalid, match="can't be packed"):
        archive({"toy": name})


def test_a_job_imports_isthmus_from_it_even_where_isthmus_is_installed(tmp_path: Path) -> None:
    """Each offers what it has: the archive the report, the installed package the rest."""
    path = tmp_path / archive().name
    path.write_bytes(archive().data)
    code = (
        "import isthmus; isthmus.report(x=1); import isthmus.domain.errors; import isthmus.runner.report; print('both')"
    )
    env = {**os.environ, "PYTHONPATH": str(path)}
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout == "both\n"

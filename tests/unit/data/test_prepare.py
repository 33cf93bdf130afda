"""Preparations at a site: each once, nothing half-made, and images' layers as the specification says."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from isthmus.proxy import layers, prepare
from isthmus.proxy.errors import ProxyError
from isthmus.runner import canonical
from tests.testbed.waiting import wait_for


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def do(work: Path, **request: object) -> dict[str, object]:
    return dict(prepare.prepare(str(work), request))


def entries(work: Path) -> list[str]:
    """What is visible in the cache."""
    return sorted(path.name for path in (work / "cache").iterdir() if not path.name.startswith("."))


def given(tmp_path: Path, data: bytes = b"hello" * 1000) -> dict[str, object]:
    source = tmp_path / "source"
    source.write_bytes(data)
    source.chmod(0o444)
    digits = hashlib.sha256(data).hexdigest()
    return {"op": "link", "to": digits, "source": str(source), "digest": digits, "size": len(data)}


# ---- link


def test_a_file_is_put_into_the_cache(work: Path, tmp_path: Path) -> None:
    request = given(tmp_path)
    how = do(work, **request)["how"]
    entry = work / "cache" / str(request["to"])
    assert entry.read_bytes() == b"hello" * 1000
    assert entry.stat().st_mode & 0o222 == 0
    assert how in ("reflink", "hard link", "copy")
    assert do(work, **request)["how"] == how, "the second time says what the first did"
    assert entries(work) == [request["to"]]


def test_root_never_shares_the_source_s_own_bytes(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write to a read-only file: through a hard link it would spoil the store."""
    request = given(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    do(work, **request)
    assert (work / "cache" / str(request["to"])).stat().st_ino != (tmp_path / "source").stat().st_ino


def test_others_link_what_nobody_may_write_to(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(prepare, "_reflink", lambda source, part: False)
    request = given(tmp_path)
    assert do(work, **request)["how"] == "hard link"
    (tmp_path / "source").chmod(0o644)
    assert do(work, **{**request, "to": "b" * 64})["how"] == "copy"


@pytest.mark.parametrize("change", [{"digest": "0" * 64}, {"size": 3}])
def test_other_content_than_announced_is_refused(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    monkeypatch.setattr(prepare, "_reflink", lambda source, part: False)
    monkeypatch.setattr(prepare, "_hard_link", lambda source, part: False)
    with pytest.raises(ProxyError) as failure:
        do(work, **{**given(tmp_path), **change})
    assert failure.value.code == "digest"
    assert entries(work) == []


def test_a_folder_comes_from_its_stream_or_as_it_is(work: Path, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "x").write_bytes(b"x" * 100_000)
    digits, size = canonical.digest(str(top))
    (tmp_path / "stream").write_bytes(b"".join(canonical.stream(str(top))))
    for number, source in enumerate(["stream", "top"]):
        request = {"digest": digits, "size": size, "source": str(tmp_path / source), "unpack": True}
        do(work, op="link", to=f"{number}" * 64, **request)
        assert canonical.digest(str(work / "cache" / (f"{number}" * 64)))[0] == digits
    with pytest.raises(ProxyError):
        do(work, op="link", to="c" * 64, **{**request, "digest": "1" * 64})
    assert "c" * 64 not in entries(work)


def test_names_stay_in_the_cache(work: Path) -> None:
    for name in ("../x", "/x", "a/b", "", None, ".x", "A"):
        with pytest.raises(ProxyError) as failure:
            do(work, op="run", to=name, commands=[["true"]])
        assert failure.value.code == "bad-request"


def test_a_missing_source(work: Path) -> None:
    with pytest.raises(ProxyError, match=r"There is no /nowhere/x"):
        do(work, op="link", to="a" * 64, source="/nowhere/x", digest="a" * 64, size=1)
    with pytest.raises(ProxyError):
        do(work, op="dance", to="a")


# ---- run


def test_a_command_makes_the_entry(work: Path) -> None:
    said = do(work, op="run", to="ref-1.sif", commands=[["sh", "-c", 'echo made; echo "$1" > "$1"', "sh", "{part}"]])
    assert said == {"output": "made\n"}
    assert entries(work) == ["ref-1.sif"]
    assert do(work, op="run", to="ref-1.sif", commands=[["false"]]) == {"output": "made\n"}


def test_what_it_printed_is_the_entry_when_it_makes_none(work: Path) -> None:
    do(work, op="run", to="ref-1.podman", commands=[["echo", "pulled"]])
    assert (work / "cache" / "ref-1.podman").read_text() == "pulled\n"


def test_the_site_s_lines_come_first(work: Path) -> None:
    command = ["sh", "-c", 'echo "$LOADED"; touch "$1"', "sh", "{part}"]
    assert do(work, op="run", to="x", commands=[command], setup=["export LOADED='yes it is'"]) == {
        "output": "yes it is\n"
    }


def test_a_failing_command_leaves_nothing_and_says_why(work: Path) -> None:
    command = ["sh", "-c", 'echo half > "$1"; echo "FATAL: no such image" >&2; exit 255', "sh", "{part}"]
    with pytest.raises(ProxyError, match=r"sh ended with exit code 255: FATAL: no such image") as failure:
        do(work, op="run", to="x", commands=[command])
    assert failure.value.code == "engine"
    assert entries(work) == []
    with pytest.raises(ProxyError, match=r"There is no command 'no-such-engine'") as failure:
        do(work, op="run", to="x", commands=[["no-such-engine"]])
    assert "set-up lines" in failure.value.hint
    full = ["sh", "-c", "echo 'write: No space left on device' >&2; exit 1"]
    with pytest.raises(ProxyError) as failure:
        do(work, op="run", to="x", commands=[full])
    assert failure.value.code == "disk-full"


def test_many_who_ask_wait_for_one(work: Path, tmp_path: Path) -> None:
    (tmp_path / "pipe").touch()
    command = ["sh", "-c", 'echo run >> "$2"; while [ ! -e "$2.go" ]; do :; done; touch "$1"', "sh", "{part}"]
    request = {"op": "run", "to": "x", "commands": [[*command, str(tmp_path / "count")]]}
    program = "import sys; from isthmus.proxy import prepare; sys.exit(prepare.main(sys.argv[1:]))"
    argv = [sys.executable, "-c", program, "--token", "T0K", "--workdir", str(work)]
    processes = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda one=one: answers.append(one.communicate(json.dumps(request))[0]))
        for one in processes
    ]
    for thread in threads:
        thread.start()
    wait_for((tmp_path / "count").exists, "the command to run")
    (tmp_path / "count.go").touch()
    for thread in threads:
        thread.join()
    assert (tmp_path / "count").read_text() == "run\n"
    assert answers == ['T0K{"ok": {"output": ""}}T0K\n'] * 4


def test_an_orphan_keeps_others_from_its_entry(work: Path, tmp_path: Path) -> None:
    """The program is killed, what it started goes on: its lock is held by that too."""
    script = 'echo $$ > "$2"; while [ ! -e "$2.go" ]; do :; done; echo late > "$1"; touch "$2.done"'
    request = {"op": "run", "to": "x", "commands": [["sh", "-c", script, "sh", "{part}", str(tmp_path / "pid")]]}
    program = "import sys; from isthmus.proxy import prepare; sys.exit(prepare.main(sys.argv[1:]))"
    argv = [sys.executable, "-c", program, "--token", "T", "--workdir", str(work)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as first:
        assert first.stdin is not None
        first.stdin.write(json.dumps(request))
        first.stdin.close()
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the command to run")
        first.kill()
    made: list[dict[str, object]] = []
    again = {"op": "run", "to": "x", "commands": [["sh", "-c", 'echo fresh > "$1"', "sh", "{part}"]]}
    waiting = threading.Thread(target=lambda: made.append(do(work, **again)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and not made
    (tmp_path / "pid.go").touch()
    waiting.join()
    assert (tmp_path / "pid.done").exists()
    assert (work / "cache" / "x").read_text() == "fresh\n"


# ---- adopt


def test_data_that_lies_there_is_measured_once(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data.csv"
    data.write_bytes(b"1,2,3\n")
    digits = hashlib.sha256(b"1,2,3\n").hexdigest()
    said = do(work, op="adopt", path=str(data), digest="")
    assert said == {"digest": digits, "size": 6, "kind": "file"}
    assert (work / "cache" / digits).readlink() == data
    measured: list[str] = []
    monkeypatch.setattr(prepare, "_measure", lambda path: measured.append(path))
    assert do(work, op="adopt", path=str(data), digest=digits) == said
    assert not measured


def test_data_that_changed_is_not_what_was_registered(work: Path, tmp_path: Path) -> None:
    top = tmp_path / "data"
    top.mkdir()
    (top / "x").write_bytes(b"old")
    digits = str(do(work, op="adopt", path=str(top), digest="")["digest"])
    (top / "x").write_bytes(b"new")
    with pytest.raises(ProxyError, match="no longer what was registered") as failure:
        do(work, op="adopt", path=str(top), digest=digits)
    assert failure.value.code == "digest"


def test_data_that_is_not_there(work: Path) -> None:
    for path in ("/nowhere/at/all", "relative", None):
        with pytest.raises(ProxyError) as failure:
            do(work, op="adopt", path=path, digest="")
        assert failure.value.code == "not-found"


# ---- layers


def layer(*members: tuple[str, str, str], packed: str = "") -> bytes:
    """A layer of (kind, name, content or target); kind as `ls` shows it: - d l h."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind, name, content in members:
            info = tarfile.TarInfo(name)
            info.type = {"-": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.LNKTYPE}[kind]
            info.mode = 0o755
            if kind in "lh":
                info.linkname = content
            else:
                info.size = len(content) if kind == "-" else 0
            archive.addfile(info, io.BytesIO(content.encode()))
    data = buffer.getvalue()
    if packed == "gzip":
        return gzip.compress(data)
    if packed == "zstd":
        return subprocess.run(["zstd", "-q"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


def oci(
    path: Path, *contents: bytes, env: tuple[str, ...] = ("PATH=/opt/bin",), machines: tuple[str, ...] = ()
) -> Path:
    """An OCI archive with these layers; with machines, an index that has it for each."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> dict[str, object]:
        digits = hashlib.sha256(data).hexdigest()
        blobs[digits] = data
        return {"digest": f"sha256:{digits}", "size": len(data)}

    config = blob(json.dumps({"config": {"Env": list(env)}}).encode())
    manifest = blob(json.dumps({"config": config, "layers": [blob(content) for content in contents]}).encode())
    index: dict[str, object] = {"manifests": [manifest]}
    if machines:
        wrong = blob(json.dumps({"config": config, "layers": []}).encode())
        own = os.uname().machine
        entries = [
            {**(manifest if one == own else wrong), "platform": {"architecture": layers.MACHINES.get(one, one)}}
            for one in machines
        ]
        index = {"manifests": [blob(json.dumps({"manifests": entries}).encode())]}
    files = {"oci-layout": b"{}", "index.json": json.dumps(index).encode()}
    files |= {f"blobs/sha256/{digits}": data for digits, data in blobs.items()}
    return archive(path, files)


def docker(path: Path, *contents: bytes) -> Path:
    """An archive as `docker save` wrote them before version 25."""
    files = {f"{number}/layer.tar": content for number, content in enumerate(contents)}
    files["config.json"] = json.dumps({"config": {"Env": ["PATH=/opt/bin"]}}).encode()
    manifest = [{"Config": "config.json", "Layers": list(files)[: len(contents)]}]
    files["manifest.json"] = json.dumps(manifest).encode()
    return archive(path, files)


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as outer:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            outer.addfile(info, io.BytesIO(data))
    return path


LOWER = (
    ("d", "etc", ""),
    ("-", "etc/old", "old"),
    ("-", "etc/kept", "kept"),
    ("d", "var/opaque", ""),
    ("-", "var/opaque/a", "a"),
    ("d", "usr/lib", ""),
    ("l", "lib", "usr/lib"),
    ("-", "usr/lib/python", "3"),
    ("h", "usr/lib/python3", "usr/lib/python"),
)
UPPER = (
    ("-", "etc/.wh.old", ""),
    ("-", "var/opaque/b", "b"),
    ("-", "var/opaque/.wh..wh..opq", ""),
    ("-", "lib/new", "through a link"),
    ("-", "etc/kept", "changed"),
)


@pytest.mark.parametrize("packed", ["", "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_layers_lie_over_each_other(kind: str, packed: str, work: Path, tmp_path: Path) -> None:
    make = {"oci": oci, "docker": docker}[kind]
    source = make(tmp_path / "image.tar", layer(*LOWER, packed=packed), layer(*UPPER, packed=packed))
    assert do(work, op="layers", to="x.root", source=str(source)) == {"env": {"PATH": "/opt/bin"}}
    root = work / "cache" / "x.root"
    assert not (root / "etc/old").exists()
    assert (root / "etc/kept").read_text() == "changed"
    assert sorted(path.name for path in (root / "var/opaque").iterdir()) == ["b"]
    assert (root / "usr/lib/new").read_text() == "through a link"
    assert (root / "usr/lib/python3").read_text() == "3"
    assert {"proc", "sys", "dev", "tmp"} <= {path.name for path in root.iterdir()}
    assert not list(root.rglob(".wh.*"))


def test_links_of_an_image_lead_nowhere_else(work: Path, tmp_path: Path) -> None:
    evil = layer(("l", "out", str(tmp_path)), ("-", "out/x", "evil"), ("l", "up", "../../../.."), ("-", "up/y", "evil"))
    source = oci(tmp_path / "image.tar", evil)
    do(work, op="layers", to="x.root", source=str(source))
    assert not (tmp_path / "x").exists()
    assert not (work / "y").exists() and not (work.parent / "y").exists()
    assert (work / "cache" / "x.root" / "y").read_text() == "evil", "as if its root were /"
    with pytest.raises(ProxyError, match="leads out of it"):
        do(work, op="layers", to="y.root", source=str(oci(tmp_path / "b.tar", layer(("-", "../x", "evil")))))
    assert entries(work) == ["x.root"]


def test_the_image_for_this_machine_is_chosen(work: Path, tmp_path: Path) -> None:
    own = os.uname().machine
    source = oci(tmp_path / "a.tar", layer(("-", "here", "yes")), machines=("s390x", own))
    do(work, op="layers", to="x.root", source=str(source))
    assert (work / "cache" / "x.root" / "here").exists()
    source = oci(tmp_path / "b.tar", layer(("-", "here", "yes")), machines=("s390x",))
    with pytest.raises(ProxyError, match="The image is for s390x, this machine is"):
        do(work, op="layers", to="y.root", source=str(source))


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100])
def test_what_is_no_image_is_refused(content: bytes, work: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ProxyError) as failure:
        do(work, op="layers", to="x.root", source=str(tmp_path / "x"))
    assert failure.value.code == "image"
    assert entries(work) == []


def test_the_program_frames_its_answer(work: Path) -> None:
    out = io.StringIO()
    code = prepare.main(["--token", "T0K", "--workdir", str(work)], io.BytesIO(b"nonsense"), out)
    assert code == 1
    assert json.loads(out.getvalue().strip().replace("T0K", ""))["error"]["code"] == "bad-request"

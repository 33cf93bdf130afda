"""Container images without a registry: a small root file system made of this machine's own files, in each format.

It holds a shell, the common commands and Debian's Python with its standard library: some 45 MB, made in a second.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.testbed.daemon import run
from tests.testbed.errors import MissingProgram, program

PYTHON = Path("/usr/bin/python3")
COMMANDS = """
    bash cat chmod cp date dd echo env false grep head hostname id ls md5sum mkdir mv nproc printf pwd rm sed seq
    sha256sum sleep sort tail timeout touch tr true uname wc
"""
SKIPPED = {"__pycache__", "test", "idlelib", "lib2to3", "tkinter", "ensurepip", "pydoc_data", "turtledemo", "distutils"}
# Folders that container engines, and the tests, mount something over: not every engine can make them by itself.
MOUNT_POINTS = (
    "dev",
    "etc",
    "home",
    "mnt/0",
    "mnt/1",
    "opt",
    "proc",
    "root",
    "run",
    "scratch",
    "srv",
    "sys",
    "tmp",
    "var/tmp",
)


def rootfs(path: Path) -> Path:
    """Makes the root file system in the folder `path`, which must not exist, and returns it.

    Raises MissingProgram if this machine has no Debian Python to take.
    """
    if not PYTHON.exists():
        raise MissingProgram(f"{PYTHON} is not there: run scripts/install-system-packages as root")
    python = PYTHON.resolve()
    path.mkdir(mode=0o755)
    # Debian's merged layout: /bin, /lib and the like are links into /usr.
    for name in ("bin", "sbin", "lib", "lib64"):
        (path / "usr" / name).mkdir(parents=True)
        (path / name).symlink_to(f"usr/{name}")
    for name in MOUNT_POINTS:
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "tmp").chmod(0o1777)
    (path / "var" / "tmp").chmod(0o1777)

    binaries = [Path(program(name)).resolve() for name in COMMANDS.split()]
    for name, binary in zip(COMMANDS.split(), binaries, strict=True):
        shutil.copy(binary, path / "usr/bin" / name)
    shutil.copy(Path(program("dash")).resolve(), path / "usr/bin/sh")
    shutil.copy(python, path / "usr/bin" / python.name)
    (path / "usr/bin/python3").symlink_to(python.name)
    library = Path("/usr/lib") / python.name
    shutil.copytree(
        library,
        path / "usr/lib" / python.name,
        ignore=lambda folder, names: {name for name in names if name in SKIPPED or name.startswith("config-")},
        symlinks=False,
        ignore_dangling_symlinks=True,
    )
    for shared in sorted(_libraries([python, *binaries, *(library / "lib-dynload").glob("*.so")])):
        target = path / "usr" / _below_usr(shared)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(shared, target)

    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (path / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    # Container engines mount the machine's own over these, which must exist.
    for name in ("hosts", "resolv.conf", "localtime"):
        (path / "etc" / name).touch()
    (path / "etc/os-release").write_text('ID=isthmus-testbed\nPRETTY_NAME="Isthmus test bed"\n')
    return path


def squashfs(root: Path, path: Path) -> Path:
    """Packs the folder `root` into the SquashFS file `path`, and returns it."""
    run(
        [program("mksquashfs"), str(root), str(path), "-quiet", "-no-progress", "-noappend", "-all-root",
         "-comp", "gzip", "-Xcompression-level", "1"],
        what="packing a SquashFS image",
    )  # fmt: skip
    return path


def oci_archive(root: Path, path: Path, *, name: str = "testbed:1") -> Path:
    """Packs the folder `root` as a one-layer image into the OCI archive `path`, and returns it.

    The same folder gives the same bytes. The layout is the OCI image specification's, 1.0:
    https://github.com/opencontainers/image-spec/blob/v1.0.2/image-layout.md
    """
    work = path.with_name(path.name + ".parts")
    blobs = work / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer = blobs / "layer"
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(root, arcname=".", filter=_plain)
    layer_digest = _file_as_digest(layer)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    }
    config_digest, config_size = _blob(blobs, config)
    size = (blobs / layer_digest.removeprefix("sha256:")).stat().st_size
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest,
            "size": config_size,
        },
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": size}],
    }
    manifest_digest, manifest_size = _blob(blobs, manifest)
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": manifest_digest,
                "size": manifest_size,
                "annotations": {"org.opencontainers.image.ref.name": name},
            }
        ],
    }
    (work / "index.json").write_text(json.dumps(index))
    (work / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for part in ("oci-layout", "index.json", "blobs"):
            tar.add(work / part, arcname=part, filter=_plain)
    shutil.rmtree(work)
    return path


def sif(root: Path, path: Path) -> Path:
    """Builds the Apptainer image `path` from the folder `root`, and returns it. Takes some 10 s.

    Raises MissingProgram if Apptainer is not installed (`scripts/install-apptainer`).
    """
    if not apptainer_installed():
        raise MissingProgram(
            "apptainer is not installed, and this test needs it: run scripts/install-apptainer as root"
        )
    run(
        [program("apptainer"), "--quiet", "build", "--force", str(path), str(root)],
        what="building a .sif image",
        timeout_s=120,
    )
    return path


def apptainer_installed() -> bool:
    """Whether this machine has Apptainer: it is the one engine that Debian's stable release lacks."""
    return shutil.which("apptainer") is not None


def _libraries(binaries: list[Path]) -> set[Path]:
    """Every shared library that these binaries load, by the paths at which they look for it."""
    # ldd takes many files in one call, and complains on stderr about those that are not dynamic.
    told = subprocess.run(
        [program("ldd"), *map(str, binaries)], capture_output=True, text=True, check=False
    ).stdout  # fmt: skip
    return {Path(found) for found in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", told, re.MULTILINE)}


def _below_usr(library: Path) -> Path:
    parts = library.parts[1:]
    return Path(*parts[1:]) if parts[0] == "usr" else Path(*parts)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _file_as_digest(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    path.rename(path.with_name(digest))
    return f"sha256:{digest}"


def _blob(folder: Path, content: Mapping[str, object]) -> tuple[str, int]:
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    (folder / digest).write_bytes(data)
    return f"sha256:{digest}", len(data)

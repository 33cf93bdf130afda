"""Layers: an OCI or docker archive becomes a root folder, without any container engine.

By the image specification of the Open Container Initiative (layer.md: change sets, whiteouts) and docker's ``save``
format. Every path of a layer is looked up as if the root folder were ``/``: a link in an image never leads out of it.
Owners, devices and special bits are left out: the folder belongs to who runs it.
"""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
import threading

from isthmus.proxy.errors import ProxyError

# What engines bind into a root folder must exist there.
FOLDERS = ("bin", "dev", "etc", "home", "mnt", "proc", "sys", "tmp", "usr", "var/tmp")
FILES = ("etc/hosts", "etc/resolv.conf", "etc/passwd", "etc/group")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
MAX_LINKS = 40
ZSTD = b"\x28\xb5\x2f\xfd"  # how its frames begin
CHUNK = 1 << 20


def unpack(archive, root):
    # type: (str, str) -> dict
    """Make the folder ``root`` from the image in ``archive``; the variables that the image sets. Raises ProxyError."""
    os.mkdir(root, 0o755)
    try:
        with tarfile.open(archive) as outer:
            config, layers = _contents(outer)
            for name in layers:
                _apply(outer, name, root)
    except (tarfile.TarError, EOFError, KeyError, IndexError, ValueError) as error:
        raise ProxyError("image", "%s is no OCI or docker archive that can be read: %s." % (archive, error))
    for name in FOLDERS:
        path = _inside(root, name)
        if not os.path.isdir(path):
            os.makedirs(path, 0o755)
    for name in FILES:
        path = _inside(root, name)
        if not os.path.lexists(path):
            open(path, "x").close()
    pairs = [text.partition("=") for text in (config.get("config") or {}).get("Env") or []]
    return {name: value for name, _, value in pairs if name}


def _contents(outer):
    """``(config, names of the layers from the lowest)`` of either kind of archive."""
    names = {member.name.lstrip("./"): member.name for member in outer if not member.isdir()}
    if "index.json" in names and "oci-layout" in names:

        def blob(descriptor):
            return names["blobs/" + descriptor["digest"].replace(":", "/")]

        manifest = _manifest(outer, names["index.json"], blob)
        return _json(outer, blob(manifest["config"])), [blob(layer) for layer in manifest["layers"]]
    if "manifest.json" in names:
        image = _json(outer, names["manifest.json"])[0]
        return _json(outer, names[image["Config"]]), [names[layer] for layer in image["Layers"]]
    raise ProxyError("image", "%s is a tar archive, but of no image (neither OCI nor docker)." % outer.name)


def _manifest(outer, index, blob):
    """The manifest of the image for this machine; an index may lead to others."""
    here = MACHINES.get(os.uname()[4], os.uname()[4])
    found = _json(outer, index)
    while "manifests" in found:
        choices = found["manifests"]
        fitting = [one for one in choices if (one.get("platform") or {}).get("architecture", here) == here]
        if not fitting:
            known = sorted({one["platform"]["architecture"] for one in choices})
            raise ProxyError("image", "The image is for %s, this machine is %s." % (", ".join(known), here))
        found = _json(outer, blob(fitting[0]))
    return found


def _json(outer, name):
    return json.loads(outer.extractfile(_real(outer, name)).read().decode("utf-8"))


def _real(outer, name):
    """The member of that name; docker's archives have layers that are links to others."""
    member = outer.getmember(name)
    for _ in range(MAX_LINKS):
        if not member.issym() and not member.islnk():
            return member
        base = os.path.dirname(member.name) if member.issym() else ""
        member = outer.getmember(os.path.normpath(os.path.join(base, member.linkname)))
    raise ProxyError("image", "%s is a link that leads nowhere." % name)


def _apply(outer, name, root):
    """Lay one layer over what is there."""
    made = set()  # paths of this layer: its whiteouts hide only what came before it
    hidden = []
    with _opened(outer.extractfile(_real(outer, name)), name) as layer:
        for member in layer:
            parts = [part for part in member.name.split("/") if part not in ("", ".")]
            if ".." in parts:
                raise ProxyError("image", "%s has a path that leads out of it: %s." % (name, member.name))
            if not parts:
                continue
            parent = _inside(root, "/".join(parts[:-1]))
            if parts[-1].startswith(".wh."):
                hidden.append((parent, parts[-1]))
                continue
            path = os.path.join(parent, parts[-1])
            os.makedirs(parent, exist_ok=True)
            _make(layer, member, path, root)
            made.add(path)
    for parent, mark in hidden:
        if mark == ".wh..wh..opq":
            for child in os.listdir(parent) if os.path.isdir(parent) else []:
                _hide(os.path.join(parent, child), made)
        else:
            _hide(os.path.join(parent, mark[len(".wh.") :]), made)


def _hide(path, made):
    """Remove what lies at ``path``, but for what this layer itself put there or below."""
    if path in made and not (os.path.isdir(path) and not os.path.islink(path)):
        return
    if not any(one == path or one.startswith(path + "/") for one in made):
        _remove(path)
        return
    for child in os.listdir(path):
        _hide(os.path.join(path, child), made)


def _make(layer, member, path, root):
    there = os.path.lexists(path)
    folder = there and os.path.isdir(path) and not os.path.islink(path)
    if there and not (folder and member.isdir()):
        _remove(path)
        there = False
    if member.isdir():
        if not there:
            os.mkdir(path)
        os.chmod(path, stat.S_IMODE(member.mode) & 0o1777 | 0o700)
    elif member.issym():
        os.symlink(member.linkname, path)
    elif member.islnk():
        parts = [part for part in member.linkname.split("/") if part not in ("", ".")]
        source = os.path.join(_inside(root, "/".join(parts[:-1])), parts[-1])
        os.link(source, path, follow_symlinks=False)
    elif member.isreg():
        with open(path, "xb") as target:
            shutil.copyfileobj(layer.extractfile(member), target, CHUNK)
            os.fchmod(target.fileno(), stat.S_IMODE(member.mode) & 0o777 | 0o600)
    # Devices and pipes: the engine brings those that a container needs.


def _inside(root, name):
    """The real path of ``name`` with ``root`` as ``/``: links on the way are followed within it."""
    pending = [part for part in reversed(name.split("/")) if part not in ("", ".")]
    parts = []  # type: list
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            parts = parts[:-1]
            continue
        path = "/".join([root] + parts + [part])
        if not os.path.islink(path):
            parts.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise ProxyError("image", "The image has a loop of links at %s." % name)
        target = os.readlink(path)
        if target.startswith("/"):
            parts = []
        pending.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
    return "/".join([root] + parts)


def _remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


@contextlib.contextmanager
def _opened(blob, name):
    """The layer's tar, whatever it is packed with; read once, from its beginning to its end."""
    magic = blob.read(len(ZSTD))
    blob.seek(0)
    if magic != ZSTD:
        with tarfile.open(fileobj=blob, mode="r|*") as layer:
            yield layer
        return
    # The standard library reads zstd from Python 3.14 on only.
    program = shutil.which("zstd")
    if not program:
        raise ProxyError(
            "image",
            "Layer %s is packed with zstd, and there is no command zstd on this machine." % name,
            "Save the image with gzip layers: `skopeo copy --dest-compress-format gzip`.",
        )
    process = subprocess.Popen([program, "-dc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, errors = process.stdout, process.stderr
    assert out is not None and errors is not None
    feeder = threading.Thread(target=_feed, args=(blob, process.stdin))
    feeder.start()
    try:
        with tarfile.open(fileobj=out, mode="r|") as layer:
            yield layer
        while out.read(CHUNK):
            pass
    finally:
        out.close()
        feeder.join()
        said = errors.read()
        errors.close()
        code = process.wait()
    if code:
        raise ProxyError("image", "zstd failed on layer %s: %s" % (name, said.decode("utf-8", "replace").strip()))


def _feed(blob, pipe):
    with contextlib.suppress(OSError), pipe:  # it ended early: its exit code tells why
        shutil.copyfileobj(blob, pipe, CHUNK)

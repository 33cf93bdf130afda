"""Container engines: how each is asked to run a command as if it ran on the node itself.

In every engine the work folder lies under its own path and is the current folder, the job's variables are set, and
exit codes and signals pass through. Values of variables never stand in an argument, where every user of the node could
read them: the engine takes them from its own environment.

Owns the engines' command lines and what their failures look like; starting and watching is the runner's.
"""

import os
import re
from collections import namedtuple

from isthmus.runner.program import start, which

Wrapped = namedtuple("Wrapped", "argv env cleanup")
Wrapped.__doc__ = """A command ready to be started, in its container if it has one: its words, its environment, and the
command that removes what a killed container engine leaves behind, or []."""

# What launchers and batch systems tell the ranks of a job: they must reach the inside too.
PASSED = re.compile(
    r"^(SLURM_|PMI_|PMI2_|PMIX_|OMPI_|PRTE_|MPI_|HYDRA_|CUDA_VISIBLE_DEVICES$|NVIDIA_VISIBLE_DEVICES$|"
    r"CUDA_MPS_|RCUDA_|ISTHMUS_GPU_)"
)

# In charliecloud up to 0.32 a bind's target must exist in a packed image. These folders do in nearly every one, empty.
MOUNTS = ("/mnt", "/srv", "/media")


class ContainerError(Exception):
    """The container can't be started as it was asked for. ``command``: the command in it is to blame."""

    def __init__(self, message: str, command: bool = False) -> None:
        super().__init__(message)
        self.command = command


class Place(object):
    """Where a container's command runs, and what of the node it sees."""

    def __init__(self, workdir: str, cwd: str, name: str, binds: list, gpu: bool = False, network: bool = True) -> None:
        self.workdir = workdir
        self.cwd = cwd
        self.name = name
        self.binds = binds  # [source, target, "ro" or "rw"]
        self.gpu = gpu
        self.network = network  # the node's; else none, where the engine can do without


def wrap(spec: dict, argv: list, env: dict, given: list, place):
    """Put ``argv`` into the container that ``spec`` (``job.json``'s ``container``) asks for.

    ``env`` is the whole environment, ``given`` the names in it that the job was given. Raises ContainerError.
    """
    engine = spec.get("engine") or ""
    if engine not in _WRAP:
        raise ContainerError("There is no container engine %r. Known: %s." % (engine, ", ".join(sorted(_WRAP))))
    binds = place.binds + [_bind(bind) for bind in spec.get("binds") or []]
    for source, target, _ in binds:
        for path in (source, target):
            if engine not in ("podman", "docker") and (":" in path or "," in path):
                raise ContainerError("%s can't be bound into a container: its path has a ':' or ','." % path)
        if not os.path.exists(source):
            raise ContainerError("%s can't be bound into the container: it does not exist on this node." % source)
    given = sorted(set(given) | {name for name in env if PASSED.match(name)})
    gpu = place.gpu or bool(spec.get("gpu"))
    place = Place(place.workdir, place.cwd, place.name, _unique(binds), gpu, place.network)
    options = [str(word) for word in spec.get("options") or []]
    return _WRAP[engine](engine, _image(spec, place.workdir), options, list(argv), dict(env), given, place)


def binary(engine: str) -> str:
    """The path of an engine's program on this node, or ""."""
    for name in _PROGRAMS.get(engine, ()):
        path = which(name)
        if path:
            return path
    return ""


def explain(engine: str, code: int, tail: bytes):
    """``(reason, message)`` if this exit code and the end of the log say that the engine itself failed, else None."""
    if engine not in _FAILURES:
        return None
    codes, pattern, not_found = _FAILURES[engine]
    if codes and code not in codes:
        return None
    lines = [line for line in tail.decode("utf-8", "replace").splitlines() if re.search(pattern, line)]
    if not lines:
        return None
    said = lines[-1].strip()
    if any(re.search(not_found, line, re.IGNORECASE) for line in lines):
        return "COMMAND", said
    return "CONTAINER", said


def _program(engine):
    path = binary(engine)
    if not path:
        raise ContainerError(
            "The container engine %s is not on this node's path (%s)." % (engine, os.environ.get("PATH", ""))
        )
    return path


def _bind(bind):
    source, target, mode = (list(bind) + ["", ""])[:3]
    return [source, target or source, mode or "ro"]


def _unique(binds):
    seen = {}
    for source, target, mode in binds:
        # The same target twice: the later one is what the job asked for.
        seen[target] = [source, target, mode]
    return sorted(seen.values(), key=lambda bind: bind[1])


def _image(spec, workdir):
    """The image as an absolute path if there is such a file (with the prefix that says its form), else as given."""
    image = spec.get("image") or ""
    prefix, colon, path = image.partition(":")
    if not colon or prefix not in ("oci-archive", "docker-archive", "oci", "dir"):
        prefix, path = "", image
    absolute = os.path.join(workdir, path)
    if not os.path.exists(absolute):
        return image
    return "%s:%s" % (prefix, absolute) if prefix else absolute


def _apptainer(engine, image, options, argv, env, given, place):
    program = _program(engine)
    # An image's own settings win over inherited variables; those with this prefix win over the image's.
    prefix = "SINGULARITYENV_" if os.path.basename(program) == "singularity" else "APPTAINERENV_"
    for name in given:
        env[prefix + name] = env[name]
    words = [program, "exec", "--pwd", place.cwd]
    for source, target, mode in place.binds:
        words += ["--bind", "%s:%s:%s" % (source, target, mode)]
    if place.gpu:
        words.append("--nv")
    if not place.network:
        words += ["--net", "--network", "none"]
    return Wrapped(words + options + [image] + argv, env, [])


def _podman(engine, image, options, argv, env, given, place):
    program = _program(engine)
    # The node's network and shared memory, as a process has them: ranks find each other, data loaders have room.
    # Quiet: the log is the command's own, not what podman tells of bringing the image in.
    words = start("shield", place.name, program, "--log-level=error", "run", "--quiet", "--rm", "--name", place.name)
    words += ["--network=" + ("host" if place.network else "none"), "--log-driver=none"]
    # Without root, podman mounts the node's /dev/mqueue too, and fails where the node has none.
    words += ["--ipc=host"] if os.path.isdir("/dev/mqueue") else ["--volume", "/dev/shm:/dev/shm"]
    words += ["--security-opt", "label=disable", "--workdir", place.cwd, "--user", "0:0"]
    if place.gpu:
        words += ["--device", "nvidia.com/gpu=all"]
    words += _volumes(place) + _names(given)
    if os.path.isdir(image):
        words += options + ["--rootfs", image]
    elif os.path.isfile(image):
        words += options + ["%s:%s" % (_archive_form(image), image)]
    else:
        words += options + [image]
    cleanup = [program, "rm", "--force", "--ignore", "--time", "0", place.name]
    return Wrapped(words + argv, env, cleanup)


def _docker(engine, image, options, argv, env, given, place):
    program = _program(engine)
    if os.path.exists(image):
        raise ContainerError("docker can't run the file %s: load it first, and name the image." % image)
    words = [program, "run", "--rm", "--init", "--name", place.name]
    words += ["--network=" + ("host" if place.network else "none"), "--ipc=host"]
    words += ["--log-driver=none", "--workdir", place.cwd, "--user", "%d:%d" % (os.getuid(), os.getgid())]
    if "HOME" not in given:
        words += ["--env", "HOME=" + place.cwd]  # the user has no home inside
    if place.gpu:
        words += ["--gpus", "all"]
    words += _volumes(place) + _names(given) + options
    return Wrapped(words + [image] + argv, env, [program, "rm", "--force", place.name])


def _charliecloud(engine, image, options, argv, env, given, place):
    program = _program(engine)
    if "USER" not in env:  # it refuses to start without
        import pwd

        env["USER"] = pwd.getpwuid(os.getuid()).pw_name
    words = [program]
    cwd, binds = place.cwd, place.binds
    if os.path.isdir(image):
        for source, target, _ in binds:
            _make_target(image, source, target)
    elif _writes_fake(program):
        words.append("--write-fake")
    else:
        binds = [bind for bind in binds if bind[0] != bind[1] or not _below(bind[0], place.workdir)]
        taken = [target for _, target, _ in binds]
        mount = next((path for path in MOUNTS if not any(_below(target, path) for target in taken)), MOUNTS[0])
        binds = [[place.workdir, mount, "rw"]] + binds

        def inside(text):
            return text.replace(place.workdir + "/", mount + "/")

        cwd = inside(cwd)
        argv = [inside(word) for word in argv]
        for name in given:
            env[name] = inside(env[name])
    for source, target, _ in binds:
        words += ["--bind", source if source == target else "%s:%s" % (source, target)]
    words += ["--cd", cwd] + options + [image, "--"]
    return Wrapped(words + argv, env, [])


def _make_target(image, source, target):
    """Make a bind's target in an image folder; the engine makes it itself only in images that it may write."""
    path = image + target
    try:
        if os.path.isdir(source):
            os.makedirs(path, exist_ok=True)
        elif not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "ab").close()
    except OSError:
        pass  # it may lie below another bind (/tmp); else the engine says what is missing


def _below(path, top):
    return (path + "/").startswith(top + "/")


def _writes_fake(program):
    import subprocess

    done = subprocess.run(
        [program, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    return b"--write-fake" in done.stdout


def _volumes(place):
    words = []
    for source, target, mode in place.binds:
        # The engines read this as a line of CSV: paths may have colons, and commas within quotes.
        parts = ["type=bind", "source=" + source, "target=" + target] + (["readonly"] if mode == "ro" else [])
        words += ["--mount", ",".join(_quoted(part) for part in parts)]
    return words


def _quoted(field):
    return '"%s"' % field.replace('"', '""') if "," in field or '"' in field else field


def _names(given):
    words = []
    for name in given:
        words += ["--env", name]
    return words


def _archive_form(path):
    import tarfile

    try:
        with tarfile.open(path) as bundle:
            for member in bundle:
                if member.name.lstrip("./") == "oci-layout":
                    return "oci-archive"
                if member.name.lstrip("./") == "manifest.json":
                    return "docker-archive"
    except (tarfile.TarError, OSError) as error:
        raise ContainerError("%s is not an image that podman can run: %s." % (path, error))
    raise ContainerError("%s is a tar archive, but of no image (neither OCI nor docker)." % path)


_PROGRAMS = {
    "apptainer": ("apptainer", "singularity"),
    "singularity": ("singularity", "apptainer"),
    "podman": ("podman",),
    "docker": ("docker",),
    "charliecloud": ("ch-run",),
}

_WRAP = {
    "apptainer": _apptainer,
    "singularity": _apptainer,
    "podman": _podman,
    "docker": _docker,
    "charliecloud": _charliecloud,
}

# Engine -> (its own exit codes, how its own lines look, which of them mean that the command is not there).
_RUNTIME = (
    (125, 126, 127),
    r"^(Error|docker|podman|time=.*level=error)|OCI runtime|container_linux|runc|crun",
    r"executable file (`[^`]*` )?not found|no such file or directory.*(exec|stat)|"
    r"exec[: ].*(no such file|permission denied)",
)
_APPTAINER = (
    (255, 126, 127),
    r"(FATAL|ERROR):",
    r"executable file not found|exec .* failed: (no such file|permission denied)|failed to exec",
)
_FAILURES = {
    "podman": _RUNTIME,
    "docker": _RUNTIME,
    "apptainer": _APPTAINER,
    "singularity": _APPTAINER,
    "charliecloud": ((), r"^ch-run\[\d+\]: error:", r"can't execve"),
}

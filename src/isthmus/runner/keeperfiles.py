"""Where a keeper is found, and what of its starter's environment its jobs get."""

import hashlib
import os
import re
import stat

LOCK = "keeper.lock"
LOG = "keeper.log"
SOCKET = "keeper.sock"
LONGEST_PATH = 100  # sockaddr_un holds 108 bytes with the final null

# What a command needs to find itself at home. The rest of the starter's environment, which may hold its secrets, is
# not the jobs'.
_KEPT = re.compile(
    r"^(HOME|USER|LOGNAME|SHELL|PATH|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|LD_LIBRARY_PATH|XDG_RUNTIME_DIR|"
    r"CUDA_.*|NVIDIA_.*|ROCR_VISIBLE_DEVICES|MODULE.*|LMOD_.*|LOADEDMODULES|BASH_FUNC_m(odule|l).*|"
    r"VIRTUAL_ENV|CONDA_PREFIX|CONTAINERS_.*|APPTAINER_.*|SINGULARITY_.*|CH_.*|DOCKER_HOST|"
    r"(https?|no|all|ftp)_proxy|(HTTPS?|NO|ALL|FTP)_PROXY|SSL_CERT_(FILE|DIR)|OMP_.*|PYTHONUNBUFFERED)$"
)


def environment(env) -> dict:
    """The part of an environment that jobs on this machine get."""
    kept = {name: value for name, value in env.items() if _KEPT.match(name)}
    kept.setdefault("PATH", os.defpath)
    return kept


def socket_path(workdir: str) -> str:
    """The path of the keeper's socket: in the work folder, or where that is too long, below /tmp.

    Raises OSError if the folder there belongs to somebody else.
    """
    path = os.path.join(workdir, SOCKET)
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return path
    folder = "/tmp/isthmus-%d" % os.getuid()
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError("%s is not a folder of this user's alone: remove it" % folder)
    return "%s/%s.sock" % (folder, hashlib.sha256(os.fsencode(workdir)).hexdigest()[:16])

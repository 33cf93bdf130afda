"""The job's command: its words, its environment and its container, put together from job.json."""

import os
import shlex
import zlib

from isthmus.runner import folder as files
from isthmus.runner import launcher, process, program
from isthmus.runner.errors import Failure

MARK = "ISTHMUS_MARK"  # in the environment of all that belongs to an attempt: by it strays are known
WORK = "/@isthmus@/work"  # in words and variables of a job: the work folder that it gets, whichever that is
GIVEN = "ISTHMUS_GIVEN"  # the names of variables that the job was given: ranks pass them into their containers


def mark(folder: files.Folder) -> str:
    """A word that stands for an attempt on this machine, whichever work folder it is of."""
    place = os.path.realpath(folder.path).encode("utf-8", "surrogateescape")
    return "%s.%08x" % (folder.key, zlib.crc32(place))


def kill_strays(folders: list) -> int:
    """Kill every process of this user that belongs to one of these attempts; how many there were."""
    return process.kill_marked([("%s=%s" % (MARK, mark(folder))).encode("utf-8") for folder in folders])


def environment(job: dict, secrets: dict, folder: files.Folder, base: dict) -> tuple:
    """``(environment, names given)``: that of the node, what the job asks for, its secrets, and what we tell it."""
    env = {name: value for name, value in base.items() if not name.startswith("ISTHMUS_")}
    work = folder.at(files.WORK)
    given = {str(name): str(value).replace(WORK, work) for name, value in (job.get("env") or {}).items()}
    given.update({name: value for name, value in secrets.items() if name})
    told = {
        MARK: mark(folder),
        "ISTHMUS_JOB_ID": str(job.get("job_id", "")),
        "ISTHMUS_ATTEMPT": str(job.get("attempt", "")),
        "ISTHMUS_REPORT": folder.at(files.METRICS),
        "ISTHMUS_CHECKPOINT": folder.resolve(job["checkpoint"]) if job.get("checkpoint") else "",
    }
    paths = [path for path in (given.get("PYTHONPATH", env.get("PYTHONPATH")), program.archive()) if path]
    told["PYTHONPATH"] = ":".join(paths)
    given.update(told)
    env.update(given)
    env["PWD"] = folder.at(files.WORK)  # as a shell that had gone there would say
    return env, sorted(given)


def words(job: dict, folder: files.Folder) -> list:
    """The argument vector of the user's own command. Raises Failure COMMAND if there is none."""
    if not job.get("script"):
        command = [str(word).replace(WORK, folder.at(files.WORK)) for word in job.get("command") or []]
        if not command or not command[0]:
            raise Failure("COMMAND", "The job has neither a command nor a script.")
        return command
    path = folder.at(files.SCRIPT)
    first = folder.read(files.SCRIPT).split(b"\n", 1)[0].decode("utf-8", "replace")
    if first.startswith("#!") and first[2:].strip():
        # As the kernel reads it, but we start the interpreter: the site's disk may forbid to execute files.
        return first[2:].strip().split(None, 1) + [path]
    return ["/bin/sh", path]


def contained(job: dict, folder: files.Folder, argv: list, env: dict, given: list, suffix: str = ""):
    """The command inside its container, or as it is if it has none. Raises Failure.

    ``suffix`` tells containers of one attempt apart.
    """
    from isthmus.runner import containers

    spec = job.get("container")
    if not spec:
        return containers.Wrapped(argv, env, [])
    binds = [[folder.path, folder.path, "rw"]]
    # PYTHONPATH may be the job's own: only the archive itself is ours to bring.
    binds.append([program.archive(), program.archive(), "ro"])
    if job.get("checkpoint"):
        path = folder.resolve(job["checkpoint"])
        binds.append([path, path, "rw"])
    for item in job.get("inputs") or []:
        path = folder.resolve(item["source"])
        if item.get("mode") != "copy":
            binds.append([path, path, "ro"])
    place = containers.Place(
        folder.workdir,
        folder.at(files.WORK),
        "isthmus-" + folder.key + suffix,
        binds,
        bool(job.get("gpus") or job.get("gpu")),
    )
    try:
        return containers.wrap(spec, argv, env, given, place)
    except containers.ContainerError as error:
        raise Failure("COMMAND" if error.command else "CONTAINER", str(error))


def build(job: dict, secrets: dict, folder: files.Folder, base: dict):
    """What the runner starts: the command in its container, or the launcher that starts its ranks. Raises Failure."""
    env, given = environment(job, secrets, folder, base)
    argv = words(job, folder)
    how = launcher.choose(job)
    nodes = launcher.nodes(env)
    env["ISTHMUS_NODES"] = ",".join(nodes)
    given.append("ISTHMUS_NODES")
    if how == "none":
        return contained(job, folder, argv, env, given)
    env.update(launcher.rendezvous(nodes))
    given += ["MASTER_ADDR", "MASTER_PORT"]
    env[GIVEN] = ",".join(given)
    return _launched(how, job, folder, argv, env, nodes)


def _launched(how, job, folder, argv, env, nodes):
    from isthmus.runner import containers

    size = launcher.Size(job, nodes, argv)
    ranks = program.start("rank", folder.path)
    if how == "runner":
        return containers.Wrapped(launcher.start(size, ranks, env), env, [])
    # In a container each rank's own program puts it there: it alone knows which variables its launcher has set.
    started = ranks + ["--task"] if job.get("container") else argv
    if how == "srun":
        return containers.Wrapped(launcher.srun(size, started), env, [])
    return containers.Wrapped(launcher.mpirun(size, started, env), env, [])


def shown(argv: list) -> str:
    """A command for a person to read, of bounded length."""
    text = " ".join(shlex.quote(word) for word in argv)
    return text if len(text) <= 300 else text[:297] + "..."


def search(argv: list, env: dict, cwd: str) -> str:
    """The path of the program that argv[0] means, as execvp finds it. Raises Failure COMMAND saying what is wrong."""
    name = argv[0]
    if "/" in name:
        candidates = [os.path.join(cwd, name)]
    else:
        folders = env.get("PATH", os.defpath).split(os.pathsep)
        candidates = [os.path.join(cwd, place, name) for place in folders]
    for path in candidates:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    there = [path for path in candidates if os.path.exists(path)]
    if there:
        raise Failure("COMMAND", "%s can't be executed: it is a folder, or has no execute permission." % there[0])
    if "/" in name:
        raise Failure("COMMAND", "There is no program %s on this node." % candidates[0])
    raise Failure(
        "COMMAND",
        "There is no command %r on this node. PATH is %s." % (name, env.get("PATH", os.defpath)),
    )

"""Submission: the job folder is written whole, then the attempt is handed over; for the same key again nothing more."""

import os

from isthmus.proxy.errors import ProxyError
from isthmus.proxy.workdir import from_os
from isthmus.runner import claim, process
from isthmus.runner import folder as files


class Item(object):
    """One attempt to be handed over, its folder written."""

    def __init__(self, folder: files.Folder, job: dict, request: dict, claimed: bool = False) -> None:
        self.folder = folder
        self.job = job
        self.batch = request.get("batch") or ""
        self.argv = list(request.get("argv") or [])
        self.claimed = claimed  # a runner has it already


def submit(workdir, system, jobs):
    """Hand attempts over: ``{key: {"ok": {"native_id"}} or {"error"}}``. One that fails spoils no other."""
    results = {}
    items = {}
    for request in jobs:
        key = request.get("key")
        if key in items:
            continue  # the same attempt twice in one request is one attempt
        try:
            items[key] = _write(workdir, request)
        except ProxyError as error:
            results[key] = {"error": error.as_json()}
    for key, answer in system.start(items).items():
        if isinstance(answer, ProxyError):
            results[key] = {"error": answer.as_json()}
            if answer.code == "batch-refused":
                items[key].folder.remove(files.SECRETS)  # another submission brings them again
        else:
            results[key] = {"ok": {"native_id": answer}}
    return results


def _write(workdir, request):
    """Write an attempt's folder, unless it is claimed: then nothing of it changes any more.

    Nothing is forced to the disk: should the machine lose it in a crash, the runner says so, and the attempt is
    followed by another.
    """
    folder = workdir.job(request["key"])
    job = dict(request["job"])
    if job.get("key", folder.key) != folder.key:
        raise ProxyError("bad-request", "The job of %s says that its key is %r." % (folder.key, job["key"]))
    made = False
    try:
        try:
            os.mkdir(folder.path, 0o700)
            made = True
        except FileExistsError:
            if folder.has(files.CLAIM):
                if claim.fenced(folder):
                    raise ProxyError("fenced", "Attempt %s was fenced: it must not run any more." % folder.key)
                return Item(folder, job, request, claimed=True)
        script = job.get("script")
        if isinstance(script, str) and script:
            folder.write(files.SCRIPT, script.encode("utf-8"), 0o700)
            job["script"] = True
        if request.get("secrets"):
            folder.write(files.SECRETS, files.dump(request["secrets"]))
        if request.get("batch"):
            folder.write(files.BATCH, request["batch"].encode("utf-8"), 0o700)
        # A process site's attempts don't outlive the machine's next start, and are not begun anew after it.
        job.update(key=folder.key, boot=process.boot_id())
        folder.write(files.SPEC, files.dump(job))
    except OSError as error:
        if made:
            _unmake(folder)
        raise from_os(error, "Writing the job folder %s" % folder.path)
    return Item(folder, job, request)


def _unmake(folder):
    import shutil

    shutil.rmtree(folder.path, ignore_errors=True)

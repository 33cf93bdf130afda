"""What a submit command's end means: the job's native id, a refusal, or that nobody knows."""

from isthmus.proxy import command
from isthmus.proxy.errors import ProxyError


def native_id(program, result, parsed, uncertain, passing, hint):
    """The native id of what ``program`` submitted, which ``parsed(stdout)`` finds or not (None).

    Raises ProxyError: ``batch-unavailable`` (transient) when its words match ``uncertain`` or it printed no id, since
    the job may have been taken; else ``batch-refused``, transient when they match ``passing``, with ``hint(words)``.
    """
    if result.code == 0:
        found = parsed(result.stdout)
        if found:
            return found
        raise ProxyError(
            "batch-unavailable",
            "%s ended well but printed no id: %r" % (program, (result.stdout + result.stderr)[-500:]),
            "The job is looked for by its name.",
            transient=True,
        )
    said = command.said(result)
    if result.code < 0 or uncertain.search(said):
        raise ProxyError("batch-unavailable", said, "It is tried again.", transient=True)
    raise ProxyError("batch-refused", said, hint(said), transient=bool(passing.search(said)))

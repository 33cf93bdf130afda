"""The kind `ssh`: processes on a machine that is reached by SSH."""

from isthmus.sites.kinds import Kind

KIND = Kind(
    name="ssh",
    summary="processes on a machine over SSH",
    batch="process",
    by_ssh=True,
    backlog=32,
)

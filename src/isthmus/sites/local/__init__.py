"""The kind `local`: processes on the control plane's own machine."""

from isthmus.sites.kinds import Kind

KIND = Kind(
    name="local",
    summary="processes on this machine",
    batch="process",
    by_ssh=False,
    backlog=32,
)

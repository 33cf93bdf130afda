"""Sites: the places that run jobs, each reached and spoken to in the same way.

    base      what the control plane may ask of any site          kinds     what there is: local, ssh, slurm, …
    session   the requests, over proxies that it keeps             archive   the programs that travel there
    transport how commands and bytes get there                     keys      SSH key pairs and fingerprints

`open_site` puts them together.
"""

from pathlib import Path

from isthmus.domain.sites import SiteSpec
from isthmus.sites.archive import archive
from isthmus.sites.base import Identity, Site
from isthmus.sites.kinds import find_kind
from isthmus.sites.launch import Launch
from isthmus.sites.session import SiteSession
from isthmus.sites.transport.base import Transport

__all__ = ["open_site"]


def open_site(spec: SiteSpec, *, instance: str, data_dir: Path, identity: Identity | None = None) -> Site:
    """The site of that spec, as `identity` sees it. Connects when it is first asked something.

    `instance` is the control plane's own 8 hex digits, so that several may use one account there; `data_dir` is its
    folder here. Raises Invalid for a kind that does not exist, Unavailable where a library is missing.
    """
    kind = find_kind(spec.kind)
    remote = spec.reach is not None and bool(spec.reach.hops)
    workdir = spec.workdir or (f"~/.isthmus/{instance}" if remote else str(data_dir.resolve() / "sites" / spec.name))
    launch = Launch(archive(kind.modules), workdir, spec.python, kind.command)
    options = {
        **kind.check_options(spec.options, "options"),
        "poll": int(spec.poll),
        "setup": list(spec.setup),
        "python": spec.python,
        "api_url": spec.api_url,
    }
    return SiteSession(spec.name, _transport(spec, identity), launch, batch=kind.batch, options=options)


def _transport(spec: SiteSpec, identity: Identity | None) -> Transport:
    if spec.reach is None or not spec.reach.hops:
        from isthmus.sites.transport.local import LocalTransport

        return LocalTransport()
    # The hops first: they say what to do when the library for SSH is missing.
    from isthmus.sites.transport import hops  # noqa: F401
    from isthmus.sites.transport.ssh import SSHTransport

    return SSHTransport(spec.reach, identity or Identity())

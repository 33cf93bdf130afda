"""Sites: how they are, what they have, what was said of them; adding, testing, draining."""

from typing import Any

from starlette.responses import Response

from isthmus import codec
from isthmus.client import addresses
from isthmus.control.jobs import JobFilter
from isthmus.documents import written
from isthmus.domain.errors import Invalid, IsthmusError
from isthmus.domain.sites import SiteSpec
from isthmus.domain.views import SiteLoad, SiteView
from isthmus.panel import fields
from isthmus.panel.visitor import Pages, Visitor

pages = Pages()


@pages.get("/sites")
async def table(visitor: Visitor) -> Response:
    """All sites."""
    found = await visitor.services.sites.list(visitor.caller)
    loads = await visitor.services.sites.loads(visitor.caller)
    costs = await _costs(visitor)
    shown = [(site, totals(site), loads.get(site.name, SiteLoad()), costs.get(site.name, 0.0)) for site in found]
    return visitor.page("sites.html", sites=shown)


async def _costs(visitor: Visitor) -> dict[str, float]:
    """What the last 7 days cost at each site."""
    found: dict[str, float] = {}
    for one in await visitor.services.overviews.week(visitor.caller):
        found[one.site] = found.get(one.site, 0.0) + one.cost
    return found


@pages.get("/sites/{name}")
async def one(visitor: Visitor) -> Response:
    """One site."""
    return await _one(visitor)


async def _one(visitor: Visitor, *, typed: str | None = None, error: IsthmusError | None = None) -> Response:
    name = visitor.path["name"]
    site = await visitor.services.sites.get(visitor.caller, name)
    loads = await visitor.services.sites.loads(visitor.caller)
    jobs = await visitor.services.jobs.list(visitor.caller, JobFilter(site=name, states=LIVE, limit=20))
    replicas = await visitor.services.artefacts.replicas_at(visitor.caller, name)
    return visitor.page(
        "site.html",
        status=error.status if error else 200,
        error=error,
        site=site,
        total=totals(site),
        load=loads.get(name, SiteLoad()),
        jobs=jobs.jobs,
        replicas=replicas,
        spec=_written(site) if typed is None else typed,
        cost=(await _costs(visitor)).get(name, 0.0),
    )


LIVE = ("STAGING", "PENDING", "RUNNING", "COLLECTING")


@pages.post("/sites/{name}/{verb}")
async def act(visitor: Visitor) -> Response:
    """Test it, drain it, let it take jobs again, take it out, change what was said of it, get one's key."""
    name, verb = visitor.path["name"], visitor.path["verb"]
    sites, caller, back = visitor.services.sites, visitor.caller, f"/sites/{visitor.path['name']}"
    form = await visitor.form()
    try:
        if verb == "test":
            await sites.test(caller, name)
            return visitor.go(back, said=f"{name} answered; what it has is as below.")
        if verb == "drain":
            await sites.drain(caller, name)
            return visitor.go(back, said=f"{name} is draining: what is there ends, nothing new starts.")
        if verb == "resume":
            await sites.resume(caller, name)
            return visitor.go(back, said=f"{name} takes jobs again.")
        if verb == "remove":
            await sites.remove(caller, name, force=bool(form.get("force")))
            return visitor.go("/sites", said=f"{name} is removed.")
        if verb == "key":
            key = await sites.public_key(caller, name, login=form.get("login", "").strip())
            return visitor.go(back, said=f"Put this line into ~/.ssh/authorized_keys there: {key}")
        if verb == "change":
            return await _changed(visitor, form.get("spec", ""))
        raise Invalid(f"{verb[:40]!r} can't be done to sites.")
    except IsthmusError as error:
        return visitor.go(back, error=error)


async def _changed(visitor: Visitor, text: str) -> Response:
    """Keep what was typed, or show it again with what is wrong."""
    name = visitor.path["name"]
    try:
        spec = read_spec(text)
        if spec.name != name:
            raise Invalid("The name of a site stays.", place="name")
        await visitor.services.sites.update(visitor.caller, spec)
    except IsthmusError as error:
        return await _one(visitor, typed=text, error=error)
    return visitor.go(f"/sites/{name}", said=f"{name} is changed.")


@pages.get("/add-site")
async def new(visitor: Visitor) -> Response:
    """The form for a new site."""
    return visitor.page("site-add.html", address="", spec="", name="", error=None, keys="")


@pages.post("/add-site")
async def add(visitor: Visitor) -> Response:
    """Reach the place, probe it, keep it; what stands in the way is shown with what was typed."""
    form = await visitor.form()
    name, address, text = (form.get(field, "").strip() for field in ("name", "address", "spec"))
    try:
        spec = read_spec(text) if text else _of_address(name, address)
        site = await visitor.services.sites.add(visitor.caller, spec, trust_host_keys=bool(form.get("trust")))
    except IsthmusError as error:
        return visitor.page(
            "site-add.html",
            status=error.status,
            address=address,
            spec=text,
            name=name,
            error=error,
            keys=error.code,
        )
    return visitor.go(f"/sites/{site.name}", said=f"{site.name} is added.")


def _of_address(name: str, address: str) -> SiteSpec:
    """The site that a line says. Never a file: it would be one of the server's."""
    if address.partition(":")[0] not in addresses.SCHEMES:
        raise Invalid(
            f"{address[:60]!r} is not the address of a site.",
            place="address",
            hint="Write it like slurm+ssh://user@host/scratch/user, ssh://host or local:",
        )
    try:
        return addresses.read(name, address)
    except Invalid as error:
        error.place = "address" if error.place == "URL" else error.place
        raise


def read_spec(text: str) -> SiteSpec:
    """A site's spec in YAML. Raises Invalid."""
    return codec.read(SiteSpec, fields.document(text, "spec"))


def _written(site: SiteView) -> str:
    return written(codec.changed(site.spec))


def totals(site: SiteView) -> dict[str, Any]:
    """Cores, memory and GPUs in all; partitions overlap, so nodes are counted once."""
    seen: set[str] = set()
    cpus = mem = nodes = 0
    gpus: dict[str, int] = {}
    for queue in site.inventory.queues:
        for node in queue.nodes:
            if node.name in seen:
                continue
            seen.add(node.name)
            nodes += node.count
            cpus += node.cpus * node.count
            mem += int(node.mem) * node.count
            for kind in node.gpus:
                gpus[kind.type or "GPU"] = gpus.get(kind.type or "GPU", 0) + kind.count * node.count
    return {"cpus": cpus, "mem": mem, "nodes": nodes, "gpus": sum(gpus.values()), "kinds": gpus}

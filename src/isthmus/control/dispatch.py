"""Dispatch: from a live attempt to what is handed to its site, and from its end to its outputs at home.

spec + placement + staged image and data ─► job.json, secrets, batch.sh ─► Submission
final report ─► outputs checked, brought home, registered
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from isthmus.control import places
from isthmus.control.live import Live
from isthmus.control.logs import Logs
from isthmus.control.tokens import AttemptTokens
from isthmus.control.vault import Vault
from isthmus.data.collection import Collection
from isthmus.data.requirements import requirements
from isthmus.data.staging import Place, Staged, Staging
from isthmus.db import attempts as attempt_rows
from isthmus.db import secrets
from isthmus.db.engine import Database
from isthmus.domain.clock import Clock
from isthmus.domain.errors import NotFound
from isthmus.domain.jobs import JobSpec
from isthmus.domain.sites import Inventory, SiteSpec
from isthmus.sites.base import Site, Submission
from isthmus.sites.kinds import Where, find_kind

HEARTBEAT_S = 10


class Dispatcher:
    """Prepares submissions, collects outputs. ``api``: how nodes reach this server, {"url", "ca_pem"}, or None."""

    def __init__(
        self,
        db: Database,
        staging: Staging,
        collection: Collection,
        logs: Logs,
        vault: Vault,
        tokens: AttemptTokens,
        clock: Clock,
        *,
        api: Mapping[str, str] | None,
    ) -> None:
        self._db = db
        self._staging = staging
        self._collection = collection
        self._logs = logs
        self._vault = vault
        self._tokens = tokens
        self._clock = clock
        self._api = api

    def token_hash(self, key: str) -> str:
        """What a new attempt's row keeps of its token."""
        return self._tokens.hash(key)

    async def prepare(self, live: Live, site: Site, row: Any) -> Submission:
        """Bring there what is missing and build the submission. ``row`` is the site's. Raises IsthmusError."""
        spec, inventory = places.read_site(row.spec), places.read_inventory(row.inventory)
        staged = Staged()
        if live.need.digests or live.spec.image or live.spec.inputs:
            needs = await self._db.read(requirements, live.spec, tuple(sorted(live.need.zones or ())))
            staged = await self._staging.ensure(_place(live, spec, inventory, site), needs, attempt_id=live.id)
        values = await self._secrets(live)
        kind = find_kind(spec.kind)
        job = self._job(live, spec, inventory, staged, kind.enforces_memory)
        batch, argv = kind.render(
            spec,
            inventory,
            live.spec,
            Where(
                key=live.key,
                queue=str(live.plan.get("queue", "")),
                node=str(live.plan.get("node", "")),
                mem_bytes=int(live.need.mem),
            ),
        )
        if job["api"]:  # without it nothing is pushed: one file less to write, read and delete for each attempt
            values[""] = self._tokens.token(live.key)
        return Submission(live.key, job, values, batch, argv)

    async def collect(self, live: Live, site: Site, row: Any) -> str:
        """Check the outputs and bring home those that ask for it; why it failed, or "". Raises transient SiteErrors."""
        spec, inventory = places.read_site(row.spec), places.read_inventory(row.inventory)
        outputs = await self._db.read(attempt_rows.outputs_of_attempt, live.id)
        zones = tuple(sorted(live.need.zones)) if live.need.zones is not None else ()
        found = [{"path": one.path, "size": one.size, "digest": one.digest, "kind": one.kind} for one in outputs]
        missing = _undelivered(live.spec, found)
        if missing:
            return missing
        collected = await self._collection.collect(
            _place(live, spec, inventory, site), live.key, live.spec, found, zones
        )
        now = self._clock.now().timestamp()

        def record(conn: Connection) -> None:
            attempt = attempt_rows.by_keys(conn, [live.key])[live.key]
            self._collection.record(conn, attempt, collected, zones, now)

        await self._db.write(record)
        return ""

    async def keep_log(self, live: Live, site: Site) -> None:
        """Bring home what the site has of an ended attempt's log. Raises SiteError."""
        rows = await self._db.read(attempt_rows.by_keys, [live.key])
        if live.key in rows:
            await self._logs.keep(rows[live.key], site)

    def _job(
        self, live: Live, spec: SiteSpec, inventory: Inventory, staged: Staged, enforce_memory: bool
    ) -> dict[str, Any]:
        """job.json, as docs/site-protocol.md says."""
        want = live.spec.resources
        container = None
        if staged.container is not None:
            container = {"binds": [], "gpu": want.gpus > 0 or want.gpu is not None, "options": [], **staged.container}
        return {
            "key": live.key,
            "job_id": live.job_id,
            "attempt": live.number,
            "command": list(live.spec.command),
            "script": live.spec.script or None,
            "env": {**staged.env, **(_limits(live.spec) if find_kind(spec.kind).own_queue else {}), **live.spec.env},
            "container": container,
            "inputs": list(staged.inputs),
            "outputs": [{"path": one.path, "optional": one.optional} for one in live.spec.outputs],
            "stdout": live.spec.stdout,
            "stderr": live.spec.stderr,
            "checkpoint": f"checkpoints/{live.job_id}" if live.spec.checkpoint else "",
            "time_s": int(want.time),
            "mem_bytes": int(live.need.mem) if enforce_memory else 0,
            "grace_s": int(live.spec.grace),
            "heartbeat_s": HEARTBEAT_S,
            "nodes": want.nodes,
            "tasks_per_node": want.tasks_per_node,
            "launcher": live.spec.launcher,
            "cpus": want.cpus * want.tasks_per_node,
            "gpus": want.gpus,
            "gpu": _gpu_part(live.spec, spec),
            "api": self._api_of(spec, inventory),
        }

    def _api_of(self, spec: SiteSpec, inventory: Inventory) -> dict[str, str] | None:
        reaches = inventory.nodes_reach_api if spec.nodes_reach_api is None else spec.nodes_reach_api
        if reaches is False or self._api is None:
            return None
        return {**self._api, **({"url": spec.api_url} if spec.api_url else {})}

    async def _secrets(self, live: Live) -> dict[str, str]:
        if not live.spec.secrets:
            return {}
        owner = await self._db.read(attempt_rows.owner_of, live.id)
        found = await self._db.read(secrets.ciphertexts, owner, live.spec.secrets.values())
        values = {}
        for variable, name in live.spec.secrets.items():
            if name not in found:
                raise NotFound(
                    f"The secret {name!r} is no longer there.",
                    place=f"secrets.{variable}",
                    hint="Set it again with `isthmus secret set`, then retry the job.",
                )
            values[variable] = self._vault.decrypt(found[name]).decode()
        return values


def _place(live: Live, spec: SiteSpec, inventory: Inventory, site: Site) -> Place:
    return Place(site_id=live.site_id, user_id=live.user_id, spec=spec, inventory=inventory, site=site)


def _gpu_part(job: JobSpec, site: SiteSpec) -> dict[str, Any] | None:
    """The part of a GPU that a job asks for, in job.json's words."""
    part = job.resources.gpu_part
    if part is None:
        return None
    remote = [{"server": one.server, "mem_bytes": int(one.mem)} for one in site.remote_gpus]
    return {"part": part.part, "mem_bytes": int(part.memory), "remote": remote}


def _limits(job: JobSpec) -> dict[str, str]:
    """What tells a job at a batch system, which chooses the GPU itself, to keep to its part of it (NVIDIA MPS)."""
    part = job.resources.gpu_part
    if part is None:
        return {}
    said = {}
    if part.part:
        said["ISTHMUS_GPU_PART"] = f"{part.part:.4g}"
        said["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(max(1, round(100 * part.part)))
    if part.memory:
        said["ISTHMUS_GPU_MEMORY"] = str(int(part.memory))
        said["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={int(part.memory) // 2**20}M"
    return said


def _undelivered(spec: JobSpec, found: list[dict[str, Any]]) -> str:
    """Which declared output is not among those that the runner found."""
    import fnmatch

    for output in spec.outputs:
        if output.optional:
            continue
        pattern = output.path.rstrip("/")
        if not any(fnmatch.fnmatchcase(str(one["path"]).rstrip("/"), pattern) for one in found):
            return f"the output {output.path!r} is missing"
    return ""

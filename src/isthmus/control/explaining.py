"""What each site says to a job: whether it fits, what speaks for it, what it would cost, and which one is chosen."""

from collections.abc import Collection

from isthmus.domain.states import JobState
from isthmus.domain.views import FilterSaid, ScoreSaid, SiteVerdict
from isthmus.placement import filters
from isthmus.placement.needs import Need
from isthmus.placement.plan import Terms, explain
from isthmus.placement.policies import DEADLINE_COST
from isthmus.placement.scores import hourly
from isthmus.placement.snapshot import SiteSnapshot


def verdicts(
    need: Need, sites: Collection[SiteSnapshot], current: str, state: JobState, terms: Terms
) -> tuple[SiteVerdict, ...]:
    """What each site has to say to a job that is at ``current``, or waits."""
    snapshots = {site.name: site for site in sites}
    found = explain(need, snapshots.values(), terms)
    best = max((verdict for verdict in found if verdict.free), key=lambda one: one.score, default=None)
    said = []
    for verdict in found:
        site = snapshots[verdict.site]
        queue = filters.choose_queue(need, site) if verdict.fits else None
        node = filters.choose_node(need, queue) if queue else None
        chosen = verdict.site == current if current and state is not JobState.QUEUED else verdict is best
        hour = hourly(need, site)
        wait = site.wait(queue.name if queue else "") if verdict.fits else None
        told = ", ".join(f"{part.name} {part.value:.2f}" for part in verdict.scores if part.value is not None)
        said.append(
            SiteVerdict(
                site=verdict.site,
                fits=verdict.fits,
                now=verdict.free,
                chosen=chosen,
                reasons=verdict.why or (*_policy(need, site), f"score {verdict.score:.2f}: {told}"),
                queue=queue.name if queue else "",
                node_type=node.name if node else "",
                wait_s=wait.seconds if wait else None,
                cost_h=hour,
                cost=hour * need.time / 3600 if need.time else None,
                policy=verdict.policy,
                score=verdict.score,
                filters=tuple(FilterSaid(name=one.name, why=one.why, lasting=one.lasting) for one in verdict.checks),
                scores=tuple(
                    ScoreSaid(name=one.name, value=one.value, weight=one.weight, note=one.note)
                    for one in verdict.scores
                ),
            )
        )
    return tuple(said)


def _policy(need: Need, site: SiteSnapshot) -> tuple[str, ...]:
    if not need.sized or site.policy != DEADLINE_COST:
        return ()
    return (f"policy {site.policy}: it decides when the job runs there, and on how many GPUs",)

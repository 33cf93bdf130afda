"""Why a job is where it is, printed: a line for each site, and its filters and scores."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from isthmus.cli import output

if TYPE_CHECKING:
    from isthmus.domain.views import Explanation, SiteVerdict


def explained(found: "Explanation", detailed: Sequence[str] = ()) -> None:
    """Print why, a line for each site, and every filter and score of the ``detailed`` ones."""
    from isthmus.domain.units import show_seconds

    if found.state is not None:
        why = " ".join(filter(None, (found.reason.sentence, found.message)))
        print(f"Job {found.job} is {found.state.value}: {why or found.state.meaning}\n")
    rows = [
        [
            each.site,
            "yes" if each.fits else "no",
            "yes" if each.now else "no",
            "chosen" if each.chosen else "",
            each.queue,
            each.node_type,
            show_seconds(each.wait_s),
            _cost(each),
            "; ".join(each.reasons),
        ]
        for each in found.sites
    ]
    output.table(("SITE", "FITS", "NOW", "", "QUEUE", "NODES", "WAIT", "COST", "WHY"), rows, empty="There is no site.")

    for each in found.sites:
        if each.site in detailed:
            _judged(each)
    if found.sites and not detailed:
        output.note("\n--site NAME, or -a, shows each filter and score.")


def _judged(verdict: "SiteVerdict") -> None:
    """Each filter and each score of one site."""
    print(f"\n{verdict.site} (policy {verdict.policy}):")
    rows = [[one.name, "no" if one.why else "yes", "", one.why] for one in verdict.filters]
    for one in verdict.scores:
        value = "" if one.value is None else f"{one.value:.2f}"
        rows.append([one.name, value, f"×{one.weight:g}", one.note])
    if verdict.fits:
        rows.append(["weighted mean", f"{verdict.score:.3f}", "", ""])
    output.table(("FILTER, SCORE", "SAYS", "WEIGHT", "BECAUSE"), rows)


def _cost(verdict: "SiteVerdict") -> str:
    """Of all its time where that has a limit, else of an hour; nothing where it is free or does not fit."""
    if not verdict.fits or not verdict.cost_h:
        return ""
    return f"{verdict.cost:.2f}" if verdict.cost is not None else f"{verdict.cost_h:.2f}/h"

"""The plan's page: how the queue of sites that decide on GPUs by deadline and cost would go on."""

from markupsafe import Markup
from starlette.responses import Response

from isthmus.panel.visitor import Pages, Visitor
from isthmus.placement.sizing import planned

pages = Pages()


@pages.get("/plan")
async def plan(visitor: Visitor) -> Response:
    """Of all such sites, or of the one that `site` names."""
    site = visitor.request.query_params.get("site", "")
    plans = await visitor.services.plans.plans(visitor.caller, site)
    # The chart escapes what it is given.
    charts = [(one, Markup(planned.svg(one, title=f"{one.site}, {one.node}"))) for one in plans]
    return visitor.page("plan.html", site=site, charts=charts)

"""The doctor's page: whether all is well where the control plane runs, and what to do where not."""

from starlette.responses import Response

from isthmus.panel.visitor import Pages, Visitor

pages = Pages()


@pages.get("/doctor")
async def doctor(visitor: Visitor) -> Response:
    """One thing after another."""
    checks = await visitor.services.doctor.checks(visitor.caller)
    return visitor.page("doctor.html", checks=checks, bad=sum(check.result != "ok" for check in checks))

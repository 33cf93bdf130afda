"""Providers of metrics: one question to a server that keeps time series, and figures by site.

    Prometheus, VictoriaMetrics   GET /api/v1/query?query=…   (prometheus.io, "HTTP API", instant queries)
    InfluxDB 1                    GET /query?db=…&q=…          (InfluxData, "InfluxDB API reference")

What can't be had raises Unavailable that says why, in the server's own words where it gave some.
"""

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import httpx

from isthmus.domain.errors import Unavailable
from isthmus.domain.placement import Provider

EVERYWHERE = "*"  # a figure that names no site holds for all
MAX_BYTES = 16 << 20
_PLACEHOLDER = re.compile(r"\$(\w+)|\$\{([\w.\-/]+)\}")


def is_per_site(query: str) -> bool:
    """Whether a query names the site in it: then it is asked for each."""
    return bool(_PLACEHOLDER.search(query))


def filled(query: str, labels: Mapping[str, object]) -> str:
    """A query with the site's labels for ``$site``, ``$zone``, ``${any/label}``. Raises Unavailable where one is
    missing."""

    def one(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in labels:
            raise Unavailable(f"the query wants the label {name!r}, which the site does not have")
        return re.sub(r"""(["'\\])""", r"\\\1", str(labels[name]))

    return _PLACEHOLDER.sub(one, query)


async def ask(http: httpx.AsyncClient, provider: Provider, query: str, by: str) -> dict[str, float]:
    """The figures that a server has now, by the series' label ``by``; `EVERYWHERE` for one without it.

    Values that are no number (NaN, infinity) are left out. Raises Unavailable.
    """
    headers = {}
    if provider.token_variable:
        token = os.environ.get(provider.token_variable)
        if not token:
            raise Unavailable(f"{provider.token_variable} is not set where the control plane runs")
        headers["Authorization"] = f"Bearer {token}"
    url = provider.url.rstrip("/")
    if provider.kind == "prometheus":
        said = await _get(http, f"{url}/api/v1/query", {"query": query}, headers, float(provider.timeout))
        return _of_prometheus(said, by)
    params = {"db": provider.database, "q": query, "epoch": "s"}
    said = await _get(http, f"{url}/query", params, headers, float(provider.timeout))
    return _of_influx(said, by)


async def _get(
    http: httpx.AsyncClient, url: str, params: Mapping[str, str], headers: Mapping[str, str], timeout_s: float
) -> Any:
    try:
        answer = await http.get(url, params=dict(params), headers=dict(headers), timeout=timeout_s)
    except httpx.TimeoutException as error:
        raise Unavailable(f"{url} did not answer within {timeout_s:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise Unavailable(f"{url} can't be reached: {error}") from error
    if len(answer.content) > MAX_BYTES:
        raise Unavailable(f"{url} answered with {len(answer.content)} bytes: ask for less")
    try:
        said = answer.json()
    except ValueError as error:
        words = answer.text.strip()[:200]
        raise Unavailable(f"{url} answered {answer.status_code}, which is not JSON: {words}") from error
    if not isinstance(said, dict):
        raise Unavailable(f"{url} answered something else than such a server would")
    if answer.status_code != 200:
        raise Unavailable(f"{url} answered {answer.status_code}: {said.get('error', answer.reason_phrase)}")
    return said


def _of_prometheus(said: Mapping[str, Any], by: str) -> dict[str, float]:
    if said.get("status") != "success":
        raise Unavailable(f"it answered: {said.get('error', said)}")
    try:
        data = said["data"]
        if data["resultType"] == "scalar":
            return _numbers([(EVERYWHERE, data["result"][1])])
        if data["resultType"] != "vector":
            raise Unavailable(f"the query gives a {data['resultType']}, not a value for each series")
        return _numbers((one["metric"].get(by, EVERYWHERE), one["value"][1]) for one in data["result"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Unavailable(f"its answer has another form than Prometheus gives: {error!r}") from error


def _of_influx(said: Mapping[str, Any], by: str) -> dict[str, float]:
    if "error" in said:
        raise Unavailable(f"it answered: {said['error']}")
    try:
        (result,) = said["results"]
        if "error" in result:
            raise Unavailable(f"it answered: {result['error']}")
        found = []
        for series in result.get("series", ()):
            value = next(
                one for name, one in zip(series["columns"], series["values"][-1], strict=True) if name != "time"
            )
            found.append(((series.get("tags") or {}).get(by) or EVERYWHERE, value))
        return _numbers(found)
    except (KeyError, IndexError, TypeError, ValueError, StopIteration) as error:
        raise Unavailable(f"its answer has another form than InfluxDB gives: {error!r}") from error


def _numbers(found: Any) -> dict[str, float]:
    """The figures that are numbers. Several of one site say nothing: which is meant?"""
    numbers: dict[str, float] = {}
    for site, text in found:
        if site in numbers:
            whose = "without a site" if site == EVERYWHERE else f"for the site {site!r}"
            raise Unavailable(f"the query gives several series {whose}: aggregate them, such as by max by (site) (…)")
        if text is not None and math.isfinite(value := float(text)):
            numbers[site] = value
    return numbers

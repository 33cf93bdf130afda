"""What servers answer, read: figures by site, and each way in which an answer says nothing."""

import json
from typing import Any

import httpx
import pytest

from isthmus.domain.errors import Unavailable
from isthmus.domain.placement import Provider
from isthmus.monitoring.providers import EVERYWHERE, ask, filled, is_per_site

PROMETHEUS = Provider(kind="prometheus", url="http://lab:9090/")
INFLUX = Provider(kind="influx", url="http://lab:8086", database="energy")


async def answered(provider: Provider, body: Any, status: int = 200) -> dict[str, float]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, text=body if isinstance(body, str) else json.dumps(body))

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        try:
            return await ask(http, provider, "the query", "site")
        finally:
            path = "/api/v1/query" if provider.kind == "prometheus" else "/query"
            assert seen[0].url.path == path
            assert "the query" in seen[0].url.params.values()


def vector(*series: tuple[dict[str, str], str]) -> dict[str, Any]:
    result = [{"metric": labels, "value": [1700000000.1, value]} for labels, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


async def test_prometheus_gives_a_value_for_each_series() -> None:
    said = vector(({"site": "here"}, "12.5"), ({"site": "there"}, "NaN"), ({"job": "x"}, "3"))
    assert await answered(PROMETHEUS, said) == {"here": 12.5, EVERYWHERE: 3.0}
    scalar = {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "4"]}}
    assert await answered(PROMETHEUS, scalar) == {EVERYWHERE: 4.0}


async def test_influx_gives_the_last_value_of_each_series() -> None:
    series = [
        {"name": "m", "tags": {"site": "here"}, "columns": ["time", "last"], "values": [[0, 1.0], [0, 2.0]]},
        {"name": "m", "columns": ["time", "mean"], "values": [[0, None]]},
    ]
    assert await answered(INFLUX, {"results": [{"statement_id": 0, "series": series}]}) == {"here": 2.0}
    assert await answered(INFLUX, {"results": [{"statement_id": 0}]}) == {}


@pytest.mark.parametrize(
    ("provider", "body", "status", "words"),
    [
        (PROMETHEUS, {"status": "error", "error": "parse error: unexpected ("}, 400, "parse error: unexpected"),
        (PROMETHEUS, "<html>gate</html>", 200, "not JSON: <html>gate"),
        (PROMETHEUS, [1], 200, "something else"),
        (PROMETHEUS, {"status": "success", "data": {}}, 200, "another form"),
        (PROMETHEUS, {"status": "success", "data": {"resultType": "matrix", "result": []}}, 200, "gives a matrix"),
        (PROMETHEUS, vector(({"site": "a"}, "1"), ({"site": "a"}, "2")), 200, "several series for the site 'a'"),
        (PROMETHEUS, vector(({}, "1"), ({}, "2")), 200, "several series without a site"),
        (INFLUX, {"results": [{"error": "database not found: energy"}]}, 200, "database not found"),
        (INFLUX, {"error": "authorization failed"}, 401, "authorization failed"),
        (INFLUX, {"results": [{"series": [{"columns": ["time"], "values": [[0]]}]}]}, 200, "another form"),
    ],
)
async def test_what_says_nothing_says_why(provider: Provider, body: Any, status: int, words: str) -> None:
    with pytest.raises(Unavailable, match=words.replace("(", r"\(")):
        await answered(provider, body, status)


async def test_a_token_comes_from_the_control_planes_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(kind="prometheus", url="http://lab", token_variable="LAB_TOKEN")
    monkeypatch.delenv("LAB_TOKEN", raising=False)
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200, json=vector())

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        with pytest.raises(Unavailable, match="LAB_TOKEN is not set"):
            await ask(http, provider, "q", "site")
        monkeypatch.setenv("LAB_TOKEN", "s3cret")
        assert await ask(http, provider, "q", "site") == {}
    assert seen == ["Bearer s3cret"]


def test_labels_are_put_into_a_query_and_can_not_break_out_of_it() -> None:
    assert is_per_site('rtt{site="$site"}')
    assert not is_per_site("rtt")
    assert filled('rtt{site="$site",rack="${at/rack}"}', {"site": "a", "at/rack": 'x"} or up{"'}) == (
        'rtt{site="a",rack="x\\"} or up{\\""}'
    )
    with pytest.raises(Unavailable, match="wants the label 'zone'"):
        filled('rtt{zone="$zone"}', {"site": "a"})

"""Whatever is wrong with a request is a problem (RFC 9457) that says what, where, and what to do."""

from typing import Any

import httpx
import pytest

from isthmus.app import App
from isthmus.domain.errors import Unavailable

PROBLEM = "application/problem+json"


def told(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.headers["content-type"] == PROBLEM, response.text
    body: dict[str, Any] = response.json()
    assert response.status_code == body["status"] == status, body
    assert {"type", "title", "detail", "code"} <= set(body)
    return body


@pytest.mark.parametrize(
    ("body", "place", "detail", "hint"),
    [
        ({"comand": ["a"]}, "comand", "There is no field 'comand' here.", "Did you mean 'command'?"),
        ({"command": ["a"], "resources": {"gpuss": 1}}, "resources.gpuss", "There is no field 'gpuss' here.",
         "Did you mean 'gpus'?"),
        ([{"command": ["a"]}, {"command": ["a"], "launcher": "srn"}], "[1].launcher",
         "'srn' is not one of the choices.", "Did you mean 'srun'?"),
        ({}, "command", "A job has either a command or a script.", ""),
        ([], "body", "There is no job in the list.", ""),
        ("x", "", "'x' is not a set of names and values.", ""),
    ],
)  # fmt: skip
async def test_a_wrong_job_is_refused_with_its_place(
    http: httpx.AsyncClient, body: Any, place: str, detail: str, hint: str
) -> None:
    problem = told(await http.post("/v1/jobs", json=body), 422)
    assert problem["detail"] == detail
    assert problem.get("place", "") == place
    assert problem.get("hint", "") == hint
    assert problem["type"] == "urn:isthmus:problem:invalid"
    assert (await http.get("/v1/jobs")).json()["jobs"] == []


async def test_each_of_several_faults_is_listed(http: httpx.AsyncClient) -> None:
    problem = told(await http.post("/v1/jobs", json={"nane": "x", "resources": {"gpuss": 1}}), 422)
    assert {fault["place"] for fault in problem["errors"]} == {"nane", "resources.gpuss"}


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b'{"command":', "The body is not JSON: EOF while parsing a value at line 1 column 11."),
        (b'{"name": "\\ud800"}', "The body is not JSON: "),
        (b'{"priority": NaN}', "The body is not JSON: "),
        (b'{"name": "\\u0000"}', "The body is not JSON: body: There is a null character in it"),
        (b"\xff\xfe", "The body is not JSON: "),
        (b"", "The body is missing."),
    ],
)
async def test_what_is_not_json_is_told(http: httpx.AsyncClient, content: bytes, detail: str) -> None:
    response = await http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert told(response, 422)["detail"].startswith(detail)


async def test_another_kind_of_body_is_told(http: httpx.AsyncClient) -> None:
    problem = told(await http.post("/v1/jobs", content=b"command=a", headers={"Content-Type": "text/plain"}), 422)
    assert (problem["detail"], problem["hint"]) == ("The body is not JSON.", "Send it as application/json.")


@pytest.mark.parametrize(
    ("path", "place", "detail", "hint"),
    [
        ("/v1/jobs?stat=FAILED", "query.stat", "This path takes no query parameter 'stat'.", "Did you mean 'state'?"),
        ("/v1/jobs?state=FALED", "query.state", "'FALED' is not a state of jobs.", "Did you mean 'FAILED'?"),
        ("/v1/jobs?limit=0", "query.limit", "'0' is too small.", "It must be 1 or more."),
        ("/v1/jobs?limit=many", "query.limit", "'many' is not a whole number.", None),
        ("/v1/jobs?label=x", "query.label", "'x' is not a label.", "Write it like team=vision."),
        ("/v1/jobs?since=2024-01-01", "query.since", "'2024-01-01' is not a time.", None),
        ("/v1/jobs/0", "path.job", "'0' is too small.", "It must be 1 or more."),
        ("/v1/jobs/x", "path.job", "'x' is not a whole number.", None),
        ("/v1/jobs/99999999999999999999", "path.job", None, None),
        ("/v1/jobs?name=a%00b", "query.name", "There is a null character in it, which no database takes.", None),
        ("/v1/ping?x=1", "query.x", "This path takes no query parameter 'x'.", None),
    ],
)
async def test_a_wrong_path_or_query_is_told(
    http: httpx.AsyncClient, path: str, place: str, detail: str | None, hint: str | None
) -> None:
    problem = told(await http.get(path), 422)
    assert problem["place"] == place
    assert detail is None or problem["detail"] == detail
    assert hint is None or problem["hint"] == hint


async def test_no_such_thing(http: httpx.AsyncClient) -> None:
    assert told(await http.get("/v1/jobs/7"), 404)["detail"] == "There is no job 7."
    assert told(await http.get("/v2/jobs"), 404)["detail"] == "There is no /v2/jobs."
    assert told(await http.put("/v1/jobs"), 405)["detail"] == "/v1/jobs does not take PUT."


async def test_a_token_is_needed(http: httpx.AsyncClient) -> None:
    for headers, code in (
        ({"Authorization": ""}, "no-token"),
        ({"Authorization": "Bearer x"}, "token-unknown"),
        ({"Authorization": "Bearer ist_" + "x" * 43}, "token-unknown"),
        ({"Authorization": "Basic YTpi"}, "no-token"),
    ):
        response = await http.get("/v1/jobs", headers=headers)
        assert told(response, 401)["code"] == code
        assert response.headers["www-authenticate"] == "Bearer"
    assert told(await http.get("/v1/jobs", headers={"Authorization": ""}), 401)["hint"].startswith(
        "Send `Authorization"
    )


async def test_ping_needs_no_token(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/ping", headers={"Authorization": ""})
    assert response.status_code == 200
    assert response.headers["isthmus-server"]


async def test_a_missing_right_is_told(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/users", json={"name": "vi", "role": "viewer"})).status_code == 201
    token = (await http.post("/v1/tokens", json={"name": "t", "user": "vi"})).json()["token"]
    response = await http.post("/v1/jobs", json={"command": ["a"]}, headers={"Authorization": f"Bearer {token}"})
    assert told(response, 403)["detail"] == "vi is a viewer; only a member may do this."


async def test_a_body_over_the_limit_is_refused_before_it_is_read(http: httpx.AsyncClient) -> None:
    problem = told(await http.post("/v1/jobs", json={"script": "x" * 100_001}), 413)
    assert problem["detail"] == "The body is over the limit of 100000 bytes."
    assert problem["hint"] == "Submit in several requests; upload big files in pieces."


async def test_a_body_of_unknown_length_is_refused_when_it_is_over(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 10_000

    response = await http.post("/v1/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert told(response, 413)["detail"] == "The body is over the limit of 100000 bytes."
    assert sent <= 12


async def test_a_fault_is_told_without_its_insides(app: App, http: httpx.AsyncClient) -> None:
    class Broken:
        async def list(self, *_: object) -> None:
            raise RuntimeError("the insides")

    app.services.jobs = Broken()  # type: ignore[assignment]
    response = await http.get("/v1/jobs")
    problem = told(response, 500)
    assert "insides" not in response.text
    assert problem["hint"].startswith("Its log has the story under 'fault ")


async def test_unavailable_says_when_to_ask_again(app: App, http: httpx.AsyncClient) -> None:
    class Busy:
        async def list(self, *_: object) -> None:
            raise Unavailable("The disk is full.", code="disk-full")

    app.services.jobs = Busy()  # type: ignore[assignment]
    response = await http.get("/v1/jobs")
    assert told(response, 503)["code"] == "disk-full"
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/explain"])
@pytest.mark.parametrize("job", [-1, 2**63, 10**30])
async def test_numbers_that_no_job_can_have_are_refused(http: httpx.AsyncClient, path: str, job: int) -> None:
    problem = told(await http.post(path, json={"command": ["a"], "after": [{"job": job}]}), 422)
    assert (problem["place"], problem["detail"]) == ("after[0].job", f"{job} is not the number of a job.")
    inputs = [{"path": "x", "job": job, "output": "y"}]
    problem = told(await http.post(path, json={"command": ["a"], "inputs": inputs}), 422)
    assert problem["place"] == "inputs[0].job"

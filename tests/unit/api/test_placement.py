"""/v1/placement: a whole problem in, its schedule out."""

import httpx

from isthmus.placement.sizing.generate import generate
from isthmus.placement.sizing.problem import write_problem

PROBLEM = write_problem(generate(nodes=2, jobs=6, gap_s=5000.0, seed=1))


async def test_it_schedules_and_says_what_it_costs(http: httpx.AsyncClient) -> None:
    totals = {}
    for policy in ("deadline-cost", "edf-whole-nodes"):
        answer = await http.post("/v1/placement/schedules", json={"problem": PROBLEM, "policy": policy})
        assert answer.status_code == 200, answer.text
        view = answer.json()
        assert {run["job"] for run in view["schedule"]["runs"]} == set(range(6))
        assert len(view["ends_s"]) == 6
        totals[policy] = view["total"]
    assert totals["deadline-cost"] <= totals["edf-whole-nodes"]


async def test_what_is_wrong_is_said_with_its_place(http: httpx.AsyncClient) -> None:
    broken = {**PROBLEM, "jobs": [{**PROBLEM["jobs"][0], "deadline_s": -1}]}
    answer = await http.post("/v1/placement/schedules", json={"problem": broken})
    assert answer.status_code == 422
    assert "jobs[0].deadline_s" in answer.text
    answer = await http.post("/v1/placement/schedules", json={"problem": PROBLEM, "policy": "edff"})
    assert answer.status_code == 404
    assert "edf" in answer.text
    answer = await http.post("/v1/placement/schedules", json={"problem": {}})
    assert answer.status_code == 422

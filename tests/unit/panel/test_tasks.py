"""The picture of a job's tasks, from the metrics that they tell."""

from datetime import UTC, datetime, timedelta

from isthmus.domain.views import Point, Series
from isthmus.panel.tasks import curves, picture, time_line

NOW = datetime(2030, 1, 2, tzinfo=UTC)


def test_the_graph_stands_in_layers() -> None:
    made = picture(
        {
            "tasks/of/load/calls": 6,
            "tasks/of/load/done": 6,
            "tasks/of/load/seconds": 3.0,
            "tasks/of/merge/calls": 3,
            "tasks/of/merge/done": 1,
            "tasks/of/save/calls": 1,
            "tasks/from/load/to/merge": 6,
            "tasks/from/merge/to/merge": 2,
            "tasks/from/merge/to/save": 1,
            "tasks/from/gone/to/save": 1,
            "loss": 0.5,
        }
    )
    boxes = {box.name: box for box in made.boxes}
    assert boxes["load"].y < boxes["merge"].y < boxes["save"].y
    assert (boxes["load"].mean_s, boxes["merge"].done, boxes["save"].mean_s) == (0.5, 1, 0.0)
    assert sorted((arrow.count, arrow.to_itself) for arrow in made.arrows) == [(1, False), (2, True), (6, False)]


def test_a_ring_of_functions_ends() -> None:
    names = {f"tasks/of/{name}/calls": 1.0 for name in "abc"}
    made = picture({**names, "tasks/from/a/to/b": 1, "tasks/from/b/to/c": 1, "tasks/from/c/to/a": 1})
    assert len(made.boxes) == len(made.arrows) == 3
    assert picture({}).boxes == ()


def test_the_time_line_has_one_scale_for_all_workers() -> None:
    def series(worker: int, *points: tuple[float, float]) -> Series:
        made = tuple(Point(step=None, at=NOW + timedelta(seconds=at), value=value) for at, value in points)
        return Series(name=f"tasks/worker/{worker}", attempt=1, points=made)

    late, early = time_line([series(10, (60, 0.0), (120, 1.0)), series(2, (0, 0.5), (60, 0.25), (120, 0.0))])[::-1]
    assert (early["worker"], late["worker"]) == ("2", "10")
    assert early["shares"][0] == 0.5
    assert early["shares"][59] == 0.25
    assert early["shares"][-1] == 0.0
    assert late["shares"][0] == 0.0
    assert late["shares"][-1] == 1.0
    assert late["seconds"] == 120
    assert time_line([]) == []


def test_what_tasks_tell_is_no_curve_but_for_their_rate() -> None:
    assert curves(["loss", "tasks/done", "tasks/per_s", "tasks/of/f/calls"]) == ["loss", "tasks/per_s"]

"""The picture of a job's hull: corners on the line, the others beside it."""

from xml.etree import ElementTree

from isthmus.placement.sizing.drawing import hull_svg
from isthmus.placement.sizing.problem import Problem, SizedJob, Vm


def test_corners_are_on_the_line_and_what_is_never_worth_it_is_not() -> None:
    job = SizedJob("a<b", 0.0, 100.0, 1.0, {"k80": (100.0, 60.0, 59.0, 40.0)})
    vms = tuple(Vm(str(gpus), "k80", gpus, 1.0 * gpus) for gpus in (1, 2, 3, 4))
    root = ElementTree.fromstring(hull_svg(Problem(1, vms, (job,)), job, "k80"))
    name = "{http://www.w3.org/2000/svg}"
    colours = [one.get("fill") for one in root.iter(f"{name}circle")]
    assert colours == ["#2a6fdb", "#2a6fdb", "#999", "#2a6fdb"]
    line = root.find(f"{name}polyline")
    assert line is not None
    assert len(line.get("points", "").split()) == 4  # with the origin

"""What is known of a task before any call, and what is refused."""

import pytest

from isthmus.domain.errors import Invalid
from isthmus.tasks import COLLECTION_IN, FILE_IN, INOUT, Depth, Type, task
from isthmus.tasks.directions import TABLE, parse


def test_returns_are_found_out():
    @task
    def nothing(x):
        x.append(1)

    @task
    def bare(x):
        if x:
            return
        x.append(1)

    @task
    def something(x):
        return x

    @task
    def hinted(x) -> tuple[int, str]:
        return 1, "a"

    @task
    def written(x) -> (int, str):
        return 1, "a"

    @task(returns=(int, str, float))
    def three(x):
        return 1, "a", 2.0

    @task(returns="2")
    def text(x):
        return 1, 2

    assert [t.shape.returns for t in (nothing, bare, something, hinted, written, three, text)] == [0, 0, 1, 2, 2, 3, 2]


def test_a_method_changes_its_object_unless_it_says_not():
    class Thing:
        @task()
        def change(self):
            self.n = 1

        @task(target_direction=TABLE["IN"], returns=1)
        def look(self):
            return self.n

    assert Thing.change.shape.written == ["self"]
    assert Thing.look.shape.written == []


def test_old_spellings_hold():
    @task(isReplicated=True, timeOut=3)
    def old(x):
        return x

    assert old.options.is_replicated and old.options.time_out == 3.0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"x": "INOT"}, "INOUT"),
        ({"y": INOUT}, "Its parameters: x."),
        ({"retruns": 1}, "returns"),
        ({"x": {Type: COLLECTION_IN, Depth: 0}}, "Depth"),
        ({"x": {"typ": FILE_IN}}, "type"),
        ({"on_failure": "RETRI"}, "RETRY"),
        ({"time_out": "soon"}, "seconds"),
        ({"returns": -1}, "number"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_nearest_word(given, says):
    with pytest.raises(Invalid) as caught:

        @task(**given)
        def f(x):
            return x

        _ = f.shape
    assert says in str(caught.value)
    assert "test_declaration.py" in caught.value.place or "test_declaration" in str(caught.value)


def test_directions_read_as_names_dicts_and_strings():
    assert parse("FILE_INOUT", "here") is TABLE["FILE_INOUT"]
    deep = parse({Type: COLLECTION_IN, Depth: 3}, "here")
    assert (deep.kind, deep.direction, deep.depth) == ("collection", "IN", 3)
    assert TABLE["FILE_STDOUT"].stdio == "stdout" and TABLE["FILE_STDOUT"].writes

"""Persistent objects in a real Redis."""

import pytest

from isthmus.domain.errors import Invalid, NotFound, Unavailable
from isthmus.tasks import INOUT, start, stop, task, wait_on
from isthmus.tasks.persistent import PersistentObject, choice, get_by_id, redis, use
from tests.testbed.brokers import RedisServer

pytestmark = pytest.mark.system


class Words(PersistentObject):
    def __init__(self, text):
        self.text = text


@task(words=INOUT)
def extend(words, more):
    words.text += more


def test_objects_in_redis(tmp_path, monkeypatch):
    with RedisServer(tmp_path) as server:
        monkeypatch.setenv("ISTHMUS_TASKS_OBJECTS", server.url)
        use(server.url)
        start(engine="processes", workers=2)
        try:
            words = Words("a")
            words.make_persistent("words")
            for letter in "bcd":
                extend(words, letter)
            assert wait_on(words).text == "abcd"
            assert get_by_id("words").text == "abcd"
            words.delete_persistent()
            with pytest.raises(NotFound):
                get_by_id("words")
            monkeypatch.setattr(redis, "_MOST", 10)
            with pytest.raises(Invalid, match="Redis keeps"):
                Words("x" * 11).make_persistent()
        finally:
            stop(kill=True)
            monkeypatch.setattr(choice, "_backend", None)


def test_no_redis():
    with pytest.raises(Unavailable, match="Redis does not answer"):
        use("redis://127.0.0.1:9")

"""Topics and those who watch them."""

import asyncio

from isthmus.db.notifications import EVERYTHING, Topics


def test_only_those_who_watch_a_topic_are_told() -> None:
    topics = Topics()
    both, one = asyncio.Event(), asyncio.Event()
    topics.add(("a", "b"), both)
    topics.add(("c",), one)
    topics.publish(["b", "unknown"])
    assert both.is_set()
    assert not one.is_set()


def test_after_a_gap_everybody_is_told() -> None:
    topics = Topics()
    watches = [asyncio.Event() for _ in range(3)]
    for number, news in enumerate(watches):
        topics.add((str(number),), news)
    topics.publish(["0", EVERYTHING])
    assert all(news.is_set() for news in watches)


def test_nothing_is_kept_of_those_who_went() -> None:
    topics = Topics()
    first, second = asyncio.Event(), asyncio.Event()
    topics.add(("a",), first)
    topics.add(("a",), second)
    topics.discard(("a",), first)
    topics.publish(["a"])
    assert second.is_set()
    assert not first.is_set()
    topics.discard(("a",), second)
    assert not topics._watches

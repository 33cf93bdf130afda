"""`Client`: the SDK for blocking code: the same nouns and methods, run by an event loop in a thread of its own.

No method is written twice: `_call` and `_each` make a blocking method from an asynchronous one, with its types.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from isthmus.client import artefacts, asynchronous, events, jobs, placement, sites, users
from isthmus.domain.views import Check, Overview

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N")


class Loop:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="isthmus-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """The result of the coroutine. An interrupt cancels it, and is raised when it has cleaned up."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and its thread."""
        if self._thread.is_alive():
            self.run(_end_tasks())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _end_tasks() -> None:
    """Cancel what still runs in this loop, and wait until it has cleaned up."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class Noun(Generic[N]):
    """A noun of the client, such as ``jobs``, for blocking code."""

    def __init__(self, noun: N, loop: Loop) -> None:
        self._noun = noun
        self._loop = loop


class _call(Generic[P, R]):
    """A blocking method made from an asynchronous one."""

    def __init__(self, method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, owner: Noun[Any], kind: type[Noun[Any]] | None = None) -> Callable[P, R]:
        if owner is None:
            return self._method

        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            return owner._loop.run(self._method(owner._noun, *args, **kwargs))

        call.__doc__ = self.__doc__
        return call


class _each(Generic[P, R]):
    """A blocking iterator made from an asynchronous one."""

    def __init__(self, method: Callable[Concatenate[Any, P], AsyncIterator[R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __get__(self, owner: Noun[Any], kind: type[Noun[Any]] | None = None) -> Callable[P, Iterator[R]]:
        if owner is None:
            return self._method

        def call(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
            return _iterate(owner._loop, self._method(owner._noun, *args, **kwargs))

        call.__doc__ = self.__doc__
        return call


def _iterate(loop: Loop, source: AsyncIterator[R]) -> Iterator[R]:
    async def following() -> R:
        return await anext(source)

    async def end() -> None:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()

    try:
        while True:
            try:
                yield loop.run(following())
            except StopAsyncIteration:
                return
    finally:
        loop.run(end())


class Jobs(Noun[jobs.Jobs]):
    """`client.jobs`: submit, watch, end and explain jobs; read their logs, metrics and outputs."""

    submit = _call(jobs.Jobs.submit)
    submit_many = _call(jobs.Jobs.submit_many)
    run = _call(jobs.Jobs.run)
    run_many = _call(jobs.Jobs.run_many)
    get = _call(jobs.Jobs.get)
    list = _call(jobs.Jobs.list)
    all = _each(jobs.Jobs.all)
    wait = _call(jobs.Jobs.wait)
    wait_many = _call(jobs.Jobs.wait_many)
    wait_any = _call(jobs.Jobs.wait_any)
    kill = _call(jobs.Jobs.kill)
    retry = _call(jobs.Jobs.retry)
    set_priority = _call(jobs.Jobs.set_priority)
    explain = _call(jobs.Jobs.explain)
    preview = _call(jobs.Jobs.preview)
    attempts = _call(jobs.Jobs.attempts)
    history = _call(jobs.Jobs.history)
    metrics = _call(jobs.Jobs.metrics)
    log = _call(jobs.Jobs.log)
    follow = _each(jobs.Jobs.follow)
    outputs = _call(jobs.Jobs.outputs)
    download = _call(jobs.Jobs.download)


class Sites(Noun[sites.Sites]):
    """`client.sites`: add places that run jobs, look at them, drain them."""

    list = _call(sites.Sites.list)
    get = _call(sites.Sites.get)
    add = _call(sites.Sites.add)
    update = _call(sites.Sites.update)
    test = _call(sites.Sites.test)
    drain = _call(sites.Sites.drain)
    resume = _call(sites.Sites.resume)
    remove = _call(sites.Sites.remove)
    plan = _call(sites.Sites.plan)
    public_key = _call(sites.Sites.public_key)


class Placement(Noun[placement.Placement]):
    """`client.placement`: rules, prices and figures of placement, and what would become of the queue."""

    rules = _call(placement.Placement.rules)
    set_rules = _call(placement.Placement.set_rules)
    catalogue = _call(placement.Placement.catalogue)
    set_catalogue = _call(placement.Placement.set_catalogue)
    metrics = _call(placement.Placement.metrics)
    policies = _call(placement.Placement.policies)
    whatif = _call(placement.Placement.whatif)


class Users(Noun[users.Users]):
    """`client.users`: people who may use the control plane."""

    me = _call(users.Users.me)
    list = _call(users.Users.list)
    get = _call(users.Users.get)
    add = _call(users.Users.add)
    change = _call(users.Users.change)
    set_password = _call(users.Users.set_password)
    remove_password = _call(users.Users.remove_password)
    sign_in_link = _call(users.Users.sign_in_link)


class Tokens(Noun[users.Tokens]):
    """`client.tokens`: access tokens."""

    list = _call(users.Tokens.list)
    create = _call(users.Tokens.create)
    revoke = _call(users.Tokens.revoke)


class Secrets(Noun[users.Secrets]):
    """`client.secrets`: credentials for jobs."""

    list = _call(users.Secrets.list)
    set = _call(users.Secrets.set)
    remove = _call(users.Secrets.remove)


class Events(Noun[events.Events]):
    """`client.events`: what happened, by whom and why; and what happens from now on."""

    list = _call(events.Events.list)
    follow = _each(events.Events.follow)


class Artefacts(Noun[artefacts.Artefacts]):
    """`client.datasets` and `client.images`: content that jobs use, by name and version."""

    register = _call(artefacts.Artefacts.register)
    register_path = _call(artefacts.Artefacts.register_path)
    register_reference = _call(artefacts.Artefacts.register_reference)
    list = _call(artefacts.Artefacts.list)
    get = _call(artefacts.Artefacts.get)
    versions = _call(artefacts.Artefacts.versions)
    replicas = _call(artefacts.Artefacts.replicas)
    remove = _call(artefacts.Artefacts.remove)
    collect_garbage = _call(artefacts.Artefacts.collect_garbage)


class Client:
    """See `isthmus.AsyncClient`: the same, for blocking code. May be used from several threads."""

    def __init__(
        self,
        url: str = "",
        token: str = "",
        *,
        ca: str | Path = "",
        fingerprint: str = "",
        patience_s: float = 5.0,
    ) -> None:
        async def made() -> asynchronous.AsyncClient:
            return asynchronous.AsyncClient(url, token, ca=ca, fingerprint=fingerprint, patience_s=patience_s)

        self._open(made())

    def _open(self, made: Coroutine[Any, Any, asynchronous.AsyncClient]) -> None:
        self._loop = loop = Loop()
        try:
            self._client = client = loop.run(made)
        except BaseException:
            loop.stop()
            raise
        self.jobs = Jobs(client.jobs, loop)
        self.sites = Sites(client.sites, loop)
        self.placement = Placement(client.placement, loop)
        self.datasets = Artefacts(client.datasets, loop)
        self.images = Artefacts(client.images, loop)
        self.users = Users(client.users, loop)
        self.tokens = Tokens(client.tokens, loop)
        self.secrets = Secrets(client.secrets, loop)
        self.events = Events(client.events, loop)

    def server(self) -> Any:
        """Which control plane this is."""
        return self._loop.run(self._client.server())

    def checks(self) -> list[Check]:
        """Whether all is well where the control plane runs, one thing after another."""
        return self._loop.run(self._client.checks())

    def overview(self, user: str = "") -> Overview:
        """What needs somebody, what runs, what ended today, what the week took; of one user's jobs, or everybody's."""
        return self._loop.run(self._client.overview(user))

    def close(self) -> None:
        """Let go of connections; of the control plane too, where it is embedded."""
        self._loop.run(self._client.close())
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

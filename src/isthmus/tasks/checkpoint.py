"""Checkpoints: the results of finished tasks, on disk, for the same program run again after it was killed.

A call is known by what it computes: its function's name and code, its arguments, and the calls that made its inputs;
the second call that is the same in all of this is another one. So a program that was killed at any moment goes on
where it was when it is run again, and one whose code has changed runs again what the change concerns. Results are
written when a task ends, each under a name of its own that appears only when it is whole.

Tasks in any order (COMMUTATIVE, CONCURRENT) have no history that another run would repeat: they run again.
"""

import hashlib
import os
import pickle
import shutil
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from isthmus.tasks.graph import Node


class Checkpoint:
    """A folder of results. All calls are made while the program's lock is held."""

    def __init__(self, folder: str, engine: Any) -> None:
        self.folder = os.path.abspath(folder)
        os.makedirs(self.folder, exist_ok=True)
        self._engine = engine
        self._made: dict[int, bytes] = {}  # version -> what made it
        self._seen: dict[bytes, int] = {}
        self._codes: dict[int, bytes] = {}
        self._files: dict[Node, list[str]] = {}
        self.taken = 0  # tasks that did not run, for their results were there

    def resume(self, node: Node, files: list[str]) -> list[Any] | None:
        """The results of an earlier run, or None. `files`: the paths that the task writes, which are put back."""
        node.key = self._key(node)
        if node.key is None:
            return None
        self._files[node] = files
        if node.waiting:
            return None
        try:
            with open(self._path(node), "rb") as file:
                values = pickle.load(file)
        except (FileNotFoundError, EOFError, pickle.UnpicklingError, AttributeError, ImportError):
            return None
        for number, path in enumerate(files):
            kept = f"{self._path(node)}.{number}"
            if not os.path.exists(kept):
                return None
            copy_whole(kept, path)
        self.taken += 1
        self._files.pop(node, None)
        return [self._engine.put(value) for value in values]

    def keep(self, node: Node, values: Sequence[Any]) -> None:
        """The task has ended: write its results. What can't be pickled is left out: it runs again."""
        files = self._files.pop(node, [])
        if node.key is None:
            return
        path = self._path(node)
        for number, written in enumerate(files):
            if not os.path.exists(written):
                return
            copy_whole(written, f"{path}.{number}")
        with suppress(pickle.PicklingError, TypeError, AttributeError):
            data = pickle.dumps([self._engine.get(value) for value in values], 5)
            with open(path + ".part", "wb") as file:
                file.write(data)
            os.replace(path + ".part", path)

    def flush(self) -> None:
        """All that has ended is written already."""

    def _path(self, node: Node) -> str:
        assert node.key is not None
        return os.path.join(self.folder, node.key)

    def _key(self, node: Node) -> str | None:
        digest = hashlib.sha256(self._code(node.function))
        digest.update(pickle.dumps(node.args, 5))
        encoding = node.encoding
        if encoding is not None:
            digest.update(pickle.dumps((list(encoding.refs), list(encoding.outs), encoding.keywords), 5))
            for where, packed in encoding.packed:
                digest.update(repr(where).encode())
                digest.update(self._engine.digest(packed))
        known = node.commutes is None
        for version in node.inputs or ():
            made = self._made.get(version.id)
            if made is None:
                if version.producer is not None:
                    known = False
                    continue
                if version.value is None and not version.error:
                    made = b"file"
                else:
                    made = self._engine.digest(version.value)
                self._made[version.id] = made
            digest.update(made)
        if not known:
            return None
        base = digest.digest()
        count = self._seen[base] = self._seen.get(base, 0) + 1
        key = hashlib.sha256(base + str(count).encode())
        for place, version in enumerate(node.outputs or ()):
            self._made[version.id] = key.digest() + str(place).encode()
        return key.hexdigest()

    def _code(self, task: Any) -> bytes:
        found = self._codes.get(task.number)
        if found is None:
            code = getattr(task.function, "__code__", None)
            parts = [task.name.encode(), repr(task.kind).encode()]
            if code is not None:
                parts += [code.co_code, repr([c for c in code.co_consts if not hasattr(c, "co_code")]).encode()]
                parts += [" ".join(code.co_names).encode()]
            found = self._codes[task.number] = b"\0".join(parts)
        return found


def copy_whole(source: str, target: str) -> None:
    """A file or folder, there as a whole or not at all."""
    part = f"{target}.part"
    if os.path.isdir(source):
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        shutil.rmtree(target, ignore_errors=True)
    else:
        shutil.copyfile(source, part)
    os.replace(part, target)

"""JavaScript, by one node process for a whole run: asked line by line, started when it is first needed.

Each evaluation sees ``inputs``, ``self`` and ``runtime``, its own copies, and nothing of node's. One context serves all
evaluations with the same library, for making one costs more than most expressions; it is made anew once an
expression has left something behind in it, or has failed.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from isthmus.domain.errors import Unavailable
from isthmus.workflows.cwl.expressions import ExpressionError

TIMEOUT_S = 20.0
NAMES = ("node", "nodejs")

SERVER = r"""
"use strict";
const vm = require("vm");
const fs = require("fs");
const libraries = new Map();
const contexts = new Map();
const scripts = new Map();
const reply = (answer) => {
  const data = Buffer.from(JSON.stringify(answer) + "\n");
  let at = 0;
  while (at < data.length) {
    try { at += fs.writeSync(1, data, at); } catch (e) { if (e.code !== "EAGAIN") throw e; }
  }
};
const script = (code) => {
  let found = scripts.get(code);
  if (!found) {
    if (scripts.size > 2000) scripts.clear();
    found = new vm.Script(
      "({inputs, self, runtime} = JSON.parse(asked)); JSON.stringify((function(){" + code + "\n})())",
      {filename: "expression"});
    scripts.set(code, found);
  }
  return found;
};
const opened = (id, ms) => {
  let found = contexts.get(id);
  if (!found) {
    const context = vm.createContext(Object.create(null));
    // Globals, because the functions of an expressionLib see them too.
    for (const name of ["inputs", "self", "runtime", "asked"]) context[name] = null;
    const how = {timeout: ms, filename: "expressionLib"};
    for (const text of libraries.get(id) || []) vm.runInContext(text, context, how);
    found = {context, count: Object.keys(context).length};
    contexts.set(id, found);
  }
  return found;
};
const answer = (line) => {
  const asked = JSON.parse(line);
  if (asked.library !== undefined) { libraries.set(asked.id, asked.library); return; }
  try {
    const found = opened(asked.id, asked.ms);
    found.context.asked = asked.names;
    const value = script(asked.code).runInContext(found.context, {timeout: asked.ms});
    // What an expression left among the globals must not reach the next one.
    if (Object.keys(found.context).length !== found.count) contexts.delete(asked.id);
    reply({value: value === undefined ? null : value});
  } catch (error) {
    contexts.delete(asked.id);
    reply({error: String(error && error.message !== undefined ? error.name + ": " + error.message : error)});
  }
};
let rest = "";
process.stdin.setEncoding("utf8");
process.stdin.on("data", (data) => {
  const lines = (rest + data).split("\n");
  rest = lines.pop();
  for (const line of lines) answer(line);
});
process.stdin.on("end", () => process.exit(0));
"""


def program() -> str:
    """The path of node on this machine, or ""."""
    return next((path for path in map(shutil.which, NAMES) if path), "")


class Node:
    """See the module. Not for several threads at once."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._libraries: dict[tuple[str, ...], int] = {}
        self._rest = b""

    def evaluate(self, code: str, library: tuple[str, ...], names: Mapping[str, Any]) -> Any:
        """The value of a function's body. Blocks for as long as it runs. Raises ExpressionError, Unavailable."""
        process = self._started()
        asked = b""
        if library and library not in self._libraries:
            self._libraries[library] = len(self._libraries) + 1
            asked = _line({"id": self._libraries[library], "library": library})
        question = {
            "id": self._libraries.get(library, 0),
            "code": code,
            "names": json.dumps(names),
            "ms": int(self._timeout_s * 1000),
        }
        assert process.stdin is not None
        try:
            process.stdin.write(asked + _line(question))
            process.stdin.flush()
            answer = json.loads(self._answer(process))
        except (BrokenPipeError, EOFError):
            self.close()
            raise ExpressionError(f"node ended while it evaluated: {code.strip()[:200]}") from None
        if "error" in answer:
            said = answer["error"]
            if "timed out" in said:
                said = f"it took longer than {self._timeout_s:.0f} s"
            raise ExpressionError(f"{said}. The expression was: {code.strip()[:300]}")
        return None if answer["value"] is None else json.loads(answer["value"])

    def close(self) -> None:
        """End node."""
        process, self._process = self._process, None
        self._libraries.clear()
        self._rest = b""
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            path = program()
            if not path:
                raise Unavailable(
                    "This workflow needs JavaScript, and there is no node on this machine.",
                    hint="Install Node.js, so that `node` is on the path.",
                    code="no-node",
                )
            self._libraries.clear()
            self._rest = b""
            self._process = subprocess.Popen(
                [path, "--max-old-space-size=1024", "-e", SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.startswith("NODE_")},
                start_new_session=True,
                preexec_fn=None,
            )
        return self._process

    def _answer(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        handle = process.stdout.fileno()
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            # The context's own time limit can't stop everything: a last bound stands outside of it.
            ready, _, _ = select.select([handle], [], [], self._timeout_s + 10)
            if not ready:
                process.send_signal(signal.SIGKILL)
                raise EOFError
            data = os.read(handle, 1 << 16)
            if not data:
                raise EOFError
            pieces.append(data)
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        return line


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"

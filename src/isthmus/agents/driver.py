"""A driver: the process that runs one function for an agent. Its tasks go to the agent that started it.

python -m isthmus.agents.driver DESCRIPTOR    the request as JSON on stdin, the answer to the descriptor
"""

import importlib
import json
import os
import sys
import traceback
from typing import Any


def main(descriptor: int) -> None:
    """Run the function and say how it ended. Does not raise."""
    request = json.load(sys.stdin)
    try:
        answer = {"state": "COMPLETED", "result": _run(request), "error": ""}
        data = json.dumps(answer)
    except BaseException as error:  # noqa: BLE001  (whatever a user's function does, the agent is told)
        traceback.print_exc()
        data = json.dumps({"state": "FAILED", "result": None, "error": f"{type(error).__name__}: {error}"})
    with os.fdopen(descriptor, "w") as pipe:
        pipe.write(data)


def _run(request: dict[str, Any]) -> Any:
    from isthmus.domain.errors import NotFound, nearest
    from isthmus.tasks import stop, wait_on

    module_name, _, name = request["function"].partition(":")
    module = importlib.import_module(module_name)
    function: Any = module
    for part in name.split("."):
        if not hasattr(function, part):
            raise NotFound(f"{module_name} has no {name!r}.", hint=nearest(name, vars(module)))
        function = getattr(function, part)
    try:
        value = wait_on(function(*request["args"], **request["kwargs"]))
        stop()
    except BaseException:
        stop(kill=True)
        raise
    return _plain(value)


def _plain(value: Any) -> Any:
    """The result as JSON has it: numpy's scalars and arrays become numbers and lists. Raises TypeError."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    return value


if __name__ == "__main__":
    main(int(sys.argv[1]))

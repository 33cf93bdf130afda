"""`@http`: a task that is a request to a service; what comes back is the task's value.

Services are named: their base URLs stand in $ISTHMUS_TASKS_SERVICES, as NAME=URL separated by commas, or in a YAML or
JSON file that it names.
"""

import ast
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from isthmus.domain.errors import Invalid, nearest
from isthmus.tasks.declaration import Task, place_of
from isthmus.tasks.failures import TaskError
from isthmus.tasks.kinds.words import given

VARIABLE = "ISTHMUS_TASKS_SERVICES"
_PARAMETER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_UPDATE = re.compile(r"^\s*\{\{\s*(\w+)\s*\}\}((?:\.\w+)+)\s*=\s*(.+)$")


class RequestFailed(TaskError):
    """A service refused a task's request, or could not be reached."""


def services() -> dict[str, str]:
    """The base URLs of services by name."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return {}
    if os.path.isfile(text):
        import yaml

        with open(text) as file:
            found = yaml.safe_load(file)
        return {str(name): str(url) for name, url in (found or {}).items()}
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    return {name.strip(): url.strip() for name, _, url in pairs}


@dataclass(frozen=True, slots=True)
class Http:
    """See the module."""

    request: str
    resource: str
    service_name: str = ""
    payload: str = ""
    payload_type: str = "application/json"
    produces: str = ""
    updates: str = ""
    timeout_s: float = 300.0

    def run(self, task: Task, *args: Any, **kwargs: Any) -> Any:
        """Send the request and take the answer apart."""
        values = given(task, args, kwargs)
        url = self._url(task, values)
        body = self._body(values)
        headers = {"Content-Type": self.payload_type} if body is not None else {}
        request = urllib.request.Request(url, data=body, headers=headers, method=self.request.upper())
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:
                data = reply.read()
                kind = reply.headers.get_content_type()
                text = data.decode(reply.headers.get_content_charset() or "utf-8")
        except urllib.error.HTTPError as error:
            said = error.read()[:500].decode(errors="replace")
            raise RequestFailed(f"{task.name}: {request.method} {url} was answered {error.code}: {said}") from error
        except OSError as error:
            raise RequestFailed(f"{task.name}: {url} can't be reached: {error}") from error
        answer = _read(text, kind)
        found = _match(_template(self.produces), answer) if self.produces else {}
        self._update(task, values, found, answer)
        returns = task.shape.returns
        if returns == 0:
            return None
        if found:
            results = [found.get(f"return_{place}") for place in range(int(returns))]
            return results[0] if returns == 1 else results
        return answer

    def _url(self, task: Task, values: Mapping[str, Any]) -> str:
        resource = _PARAMETER.sub(lambda m: urllib.parse.quote(str(values.get(m[1], m[0])), safe=""), self.resource)
        if not self.service_name:
            return resource
        known = services()
        if self.service_name not in known:
            raise Invalid(
                f"The service {self.service_name!r} of {task.name} has no address.",
                place=place_of(task.function),
                hint=nearest(self.service_name, known) if known else f"Set {VARIABLE}={self.service_name}=http://...",
            )
        return known[self.service_name].rstrip("/") + "/" + resource.lstrip("/")

    def _body(self, values: Mapping[str, Any]) -> bytes | None:
        if not self.payload:
            return None
        alone = _PARAMETER.fullmatch(self.payload.strip())
        if alone:
            value = values.get(alone[1], "")
            if isinstance(value, str) and os.path.isfile(value):
                with open(value, "rb") as file:
                    return file.read()
            return (value if isinstance(value, str) else json.dumps(value)).encode()
        # Within a template a value stands as JSON would write it.
        return _PARAMETER.sub(lambda m: json.dumps(values.get(m[1])), self.payload).encode()

    def _update(self, task: Task, values: Mapping[str, Any], found: Mapping[str, Any], answer: Any) -> None:
        if not self.updates:
            return
        match = _UPDATE.match(self.updates)
        if match is None:
            raise Invalid(
                f"updates={self.updates!r} of {task.name} is not understood.",
                place=place_of(task.function),
                hint="Write it like '{{parameter}}.key = {{return_0}}'.",
            )
        target, keys = values[match[1]], match[2].strip(".").split(".")
        alone = _PARAMETER.fullmatch(match[3].strip())
        value = {"return_0": answer, **values, **found}.get(alone[1]) if alone else match[3].strip()
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value


def _read(text: str, kind: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _template(produces: str) -> Any:
    quoted = re.sub(r'(?<!")(\{\{\s*\w+\s*\}\})(?!")', r'"\1"', produces)
    try:
        return json.loads(quoted)
    except json.JSONDecodeError:
        return ast.literal_eval(produces)  # with Python's quotes, as older programs write it


def _match(template: Any, answer: Any) -> dict[str, Any]:
    """What stands in the answer where the template has {{return_0}} and so on."""
    if isinstance(template, str):
        alone = _PARAMETER.fullmatch(template.strip())
        return {alone[1]: answer} if alone else {}
    found: dict[str, Any] = {}
    if isinstance(template, dict) and isinstance(answer, dict):
        for key, inner in template.items():
            found |= _match(inner, answer.get(key))
    elif isinstance(template, list) and isinstance(answer, list):
        for inner, item in zip(template, answer, strict=False):
            found |= _match(inner, item)
    return found

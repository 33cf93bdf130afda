"""What is typed into fields."""

from __future__ import annotations

import pytest

from isthmus.domain.errors import Invalid
from isthmus.panel import fields


def test_what_is_typed_wrong_is_told_at_its_field_with_the_line() -> None:
    with pytest.raises(Invalid) as caught:
        fields.document("a: 1\nb: [2\n", "spec")
    assert caught.value.place == "spec" and caught.value.message.startswith("Line 3: This is not YAML: ")
    with pytest.raises(Invalid) as caught:
        fields.document("a: 1\na: 2\n", "spec")
    assert caught.value.place == "spec" and caught.value.message.startswith("Line 2: ")
    assert fields.document('{"a": "yes"}', "spec") == {"a": "yes"}

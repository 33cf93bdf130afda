"""Secret texts, and where they are no longer seen."""

from isthmus.workflows.hidden import Hidden


def hidden(*values: object) -> Hidden:
    found = Hidden()
    for each in values:
        found.add(each)
    return found


def test_every_occurrence_is_hidden_the_longest_first() -> None:
    secrets = hidden("pass", {"word": ["password", None]})
    assert secrets.text("pass=password; pass") == "(secret)=(secret); (secret)"
    assert secrets.value({"a": ["password", 3]}) == {"a": ["(secret)", 3]}
    assert secrets.within("my pass") and not secrets.within("my word")


def test_a_mark_is_the_same_for_the_same_secret() -> None:
    secrets = hidden("one", "two")
    assert secrets.value(["one two", "one"], lambda text: f"<{len(text)}{text[0]}>") == ["<3o> <3t>", "<3o>"]


def test_nothing_is_hidden_where_nothing_is_secret() -> None:
    value = {"a": "text"}
    assert hidden("", None).value(value) is value


def test_numbers_are_hidden_as_they_are_written() -> None:
    assert hidden(4711).text("pin 4711") == "pin (secret)"

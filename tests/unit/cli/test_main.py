"""The start of the command line, and what it makes of errors."""

import subprocess
import sys

import pytest

from isthmus.cli.main import exit_code, main
from isthmus.domain import errors


def test_commands_import_nothing_that_they_do_not_use() -> None:
    """A command starts fast because of what its module leaves out."""
    heavy = "{'httpx', 'fastapi', 'sqlalchemy', 'uvicorn', 'alembic', 'yaml', 'cryptography', 'asyncssh', 'asyncio'}"
    program = f"import sys, isthmus.cli.main; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_client_imports_nothing_of_the_server() -> None:
    heavy = "{'fastapi', 'sqlalchemy', 'uvicorn', 'alembic', 'asyncssh', 'isthmus.control', 'isthmus.db'}"
    program = f"import sys, isthmus.client; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Invalid("x"), 2),
        (errors.NotFound("x"), 3),
        (errors.Unauthenticated("x"), 4),
        (errors.Forbidden("x"), 4),
        (errors.Unavailable("x"), 5),
        (errors.Conflict("x"), 1),
        (errors.Refused("x"), 1),
    ],
)
def test_exit_codes(error: errors.IsthmusError, code: int) -> None:
    assert exit_code(error) == code


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--version"], ["-h"], ["job", "--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("isthmus 0.")
    assert "NAME or NAME@VERSION" in " ".join(out.split())


def test_a_wrong_word_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["jbo", "ps"])
    assert ended.value.code == 2
    assert "job" in capsys.readouterr().err


def test_faults_of_the_program_are_told_in_two_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from isthmus.client import config

    def broken(*_: object) -> None:
        raise RuntimeError("the insides")

    monkeypatch.setattr(config, "load", broken)
    with pytest.raises(SystemExit) as ended:
        main(["job", "ps"])
    assert ended.value.code == 70
    assert capsys.readouterr().err.splitlines() == [
        "isthmus: a fault of this program: RuntimeError: the insides",
        "         ISTHMUS_DEBUG=1 shows where it happened.",
    ]

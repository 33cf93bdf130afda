"""Which server the client talks to."""

from pathlib import Path

import pytest

from isthmus.client import config
from isthmus.client.config import Config
from isthmus.domain.errors import Invalid, Unauthenticated, Unavailable


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"ISTHMUS_CONFIG": str(tmp_path / "isthmus")}


def test_none_is_known(env: dict[str, str]) -> None:
    with pytest.raises(Unavailable, match="No server is known here") as caught:
        config.load(env)
    assert "isthmus up" in caught.value.hint


def test_what_is_saved_is_loaded_and_private(env: dict[str, str]) -> None:
    saved = Config(url="https://x:1", token='ist_"q\\', ca="-----BEGIN\nx\n", certificate="é", written_by="login")
    path = config.save(saved, env)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    found = config.load(env)
    assert (found.url, found.token, found.ca, found.certificate, found.written_by) == (
        saved.url, saved.token, saved.ca, saved.certificate, saved.written_by,
    )  # fmt: skip
    assert found.source == str(path)


def test_variables_come_first(env: dict[str, str]) -> None:
    config.save(Config(url="http://one", token="t1", certificate="pem"), env)
    found = config.load({**env, "ISTHMUS_URL": "http://two/", "ISTHMUS_TOKEN": "t2"})
    assert (found.url, found.token, found.certificate) == ("http://two", "t2", "")
    assert config.load({**env, "ISTHMUS_TOKEN": "t3"}).token == "t3"


def test_the_kept_token_is_for_the_kept_server_alone(env: dict[str, str]) -> None:
    config.save(Config(url="http://one", token="t1"), env)
    assert config.load({**env, "ISTHMUS_URL": "http://two"}).token == ""
    assert config.load({**env, "ISTHMUS_URL": "http://one"}).token == "t1"


def test_a_token_that_others_may_read_is_refused(env: dict[str, str]) -> None:
    path = config.save(Config(url="http://one", token="t1"), env)
    path.chmod(0o644)
    with pytest.raises(Unauthenticated, match="others may read it") as caught:
        config.load(env)
    assert f"chmod 600 {path}" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = ", "This is not TOML"),
        ('ulr = "http://x"', "There is no setting 'ulr'. Did you mean 'url'?"),
        ("url = 3", "url is not a text"),
        ('token = "x"', "It names no url"),
    ],
)
def test_a_file_that_makes_no_sense(env: dict[str, str], text: str, said: str) -> None:
    path = config.config_path(env)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(Invalid) as caught:
        config.load(env)
    assert said in str(caught.value)

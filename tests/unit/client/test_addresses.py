"""Sites written as one line."""

from pathlib import Path

import pytest

from isthmus.client import addresses
from isthmus.domain.errors import Invalid
from isthmus.domain.sites import Hop


def test_local() -> None:
    spec = addresses.read("here", "local:")
    assert (spec.name, spec.kind, spec.reach, spec.workdir) == ("here", "local", None, "")
    assert addresses.read("here", "local:/data/jobs").workdir == "/data/jobs"


def test_ssh_with_everything() -> None:
    spec = addresses.read(
        "hpc",
        "slurm+ssh://ada@login.example.org:2222/scratch/ada?jump=ada@gate:22&jump=inner&key=/home/ada/.ssh/k"
        "&qos=long&account=p1&zone=EU&engine=apptainer&python=python3.9&setup=module%20load%20x&api=https://api:1",
    )
    assert spec.kind == "slurm"
    assert spec.reach is not None
    assert spec.reach.hops == (
        Hop(host="gate", port=22, user="ada"),
        Hop(host="inner"),
        Hop(host="login.example.org", port=2222, user="ada"),
    )
    assert spec.reach.key_file == "/home/ada/.ssh/k"
    assert spec.workdir == "/scratch/ada"
    assert spec.options == {"qos": "long", "account": "p1"}
    assert (spec.zone, spec.engine, spec.python, spec.api_url) == ("EU", "apptainer", "python3.9", "https://api:1")
    assert spec.setup == ("module load x",)


def test_a_workdir_below_the_home_folder() -> None:
    assert addresses.read("x", "ssh://box/~/isthmus").workdir == "~/isthmus"


def test_ipv6() -> None:
    spec = addresses.read("x", "ssh://ada@[2001:db8::1]:22")
    assert spec.reach is not None
    assert spec.reach.hops == (Hop(host="2001:db8::1", port=22, user="ada"),)


def test_an_agent() -> None:
    spec = addresses.read("x", "ssh://box?agent=1")
    assert spec.reach is not None
    assert spec.reach.agent


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slrum+ssh://x", "'slrum+ssh' is not a kind of site. Did you mean 'slurm+ssh'?"),
        ("ssh://", "names no host"),
        ("ssh://a b", "is not a machine"),
        ("ssh://x?jump=a:b:c", "'a:b:c' is not a machine. Write it like user@host:22."),
        ("local:?jump=x", "Only a site over SSH has jump hosts and keys."),
        ("cluster", "'cluster' is neither a URL nor a file."),
        ("ssh://x?engine=apptaner", "Did you mean 'apptainer'?"),
    ],
)
def test_what_makes_no_sense_is_told(text: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        addresses.read("x", text)
    assert said in str(caught.value)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("kind: slurm\nreach:\n  hops:\n    - {host: login, user: ada}\noptions: {qos: long}\n")
    spec = addresses.read("hpc", str(path))
    assert (spec.name, spec.kind, spec.options) == ("hpc", "slurm", {"qos": "long"})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("kind: local")
    with pytest.raises(Invalid, match=r"There is no such file\. Did you mean 'site\.yaml'\?"):
        addresses.read("x", str(tmp_path / "sites.yaml"))

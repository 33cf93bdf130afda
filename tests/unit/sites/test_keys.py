"""Key pairs and fingerprints, compared with what ssh-keygen says."""

import subprocess
from pathlib import Path

import pytest

from isthmus.domain.errors import Invalid
from isthmus.sites import keys


def keygen(*words: str) -> str:
    return subprocess.run(["ssh-keygen", *words], capture_output=True, text=True, check=True).stdout


def test_a_new_pair_is_one_that_openssh_reads(tmp_path: Path) -> None:
    pair = keys.generate("isthmus alice@hpc")
    file = tmp_path / "key"
    file.write_bytes(pair.private)
    file.chmod(0o600)
    assert keygen("-y", "-f", str(file)).split()[:2] == pair.public.split()[:2]
    assert pair.public.startswith("ssh-ed25519 ") and pair.public.endswith(" isthmus alice@hpc")
    assert keys.public_line(pair.private, "x") == f"{keys.normal(pair.public)} x"
    assert keys.generate().private != pair.private


def test_the_private_half_is_not_shown() -> None:
    pair = keys.generate()
    assert "PRIVATE" not in repr(pair)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "key"
    keygen("-q", "-t", kind, "-N", "", "-f", str(file))
    public = file.with_suffix(".pub").read_text()
    assert keys.fingerprint(public) in keygen("-l", "-f", str(file))


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 %%%", "ssh-rsa AAAAC3NzaC1lZDI1NTE5", "a b c"])
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(Invalid, match="not a public key"):
        keys.normal(line)


def test_a_private_key_with_a_passphrase_can_not_be_used(tmp_path: Path) -> None:
    file = tmp_path / "key"
    keygen("-q", "-t", "ed25519", "-N", "secret", "-f", str(file))
    with pytest.raises(Invalid, match="agent"):
        keys.public_line(file.read_bytes())

"""The vault and its keys."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from isthmus.control.vault import Vault
from isthmus.domain.errors import Conflict, Invalid, Unavailable


def test_what_is_encrypted_is_decrypted_after_a_restart(tmp_path: Path) -> None:
    ciphertext = Vault.open(tmp_path, {}).encrypt(b"plain")
    assert b"plain" not in ciphertext
    assert Vault.open(tmp_path, {}).decrypt(ciphertext) == b"plain"


def test_no_two_ciphertexts_are_alike(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path, {})
    assert vault.encrypt(b"plain") != vault.encrypt(b"plain")


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    Vault.open(tmp_path, {})
    path = tmp_path / "secret.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(Conflict, match=r"Others may read .*secret\.key \(mode 640\)") as caught:
        Vault.open(tmp_path, {})
    assert f"chmod 600 {path}" in caught.value.hint


def test_processes_that_start_at_once_have_the_same_key(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    vaults: list[Vault] = []

    def start() -> None:
        together.wait()
        vaults.append(Vault.open(tmp_path, {}))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(vaults) == 8
    assert {vault.decrypt(vaults[0].encrypt(b"x")) for vault in vaults} == {b"x"}


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path, {})
    ciphertext = bytearray(vault.encrypt(b"plain"))
    ciphertext[30] ^= 1
    with pytest.raises(Unavailable, match="can't be decrypted"):
        vault.decrypt(bytes(ciphertext))


def test_another_key_decrypts_nothing_and_says_where_it_looked(tmp_path: Path) -> None:
    ciphertext = Vault([Fernet.generate_key()]).encrypt(b"plain")
    with pytest.raises(Unavailable, match=r"keys in .*secret\.key"):
        Vault.open(tmp_path, {}).decrypt(ciphertext)


def test_a_new_key_encrypts_and_the_old_one_goes_on_decrypting(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path, {})
    old = vault.encrypt(b"plain")
    vault.add_key()
    new = vault.reencrypt(old)
    assert vault.decrypt(old) == vault.decrypt(new) == b"plain"
    first, second = (tmp_path / "secret.key").read_bytes().split()
    assert Vault([first]).decrypt(new) == b"plain"
    assert Vault([second]).decrypt(old) == b"plain"
    with pytest.raises(Unavailable):
        Vault([second]).decrypt(new)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_another_process_added_is_found(tmp_path: Path) -> None:
    here, there = Vault.open(tmp_path, {}), Vault.open(tmp_path, {})
    there.add_key()
    assert here.decrypt(there.encrypt(b"plain")) == b"plain"


def test_processes_that_add_keys_at_once_lose_none(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    kept: list[bytes] = []

    def rotate(vault: Vault) -> None:
        together.wait()
        vault.add_key()
        kept.append(vault.encrypt(b"x"))

    threads = [threading.Thread(target=rotate, args=(Vault.open(tmp_path, {}),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    vault = Vault.open(tmp_path, {})
    assert [vault.decrypt(ciphertext) for ciphertext in kept] == [b"x"] * 8
    assert len((tmp_path / "secret.key").read_bytes().split()) == 9


def test_keys_from_the_environment_leave_no_file(tmp_path: Path) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    before = Vault.open(tmp_path, {"ISTHMUS_SECRET_KEY": old}).encrypt(b"plain")
    after = Vault.open(tmp_path, {"ISTHMUS_SECRET_KEY": f"{new}, {old}"})
    assert after.decrypt(before) == b"plain"
    assert Vault([new.encode()]).decrypt(after.encrypt(b"x")) == b"x"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Conflict, match="only its owner can change"):
        after.add_key()


def test_derived_bytes_stay_the_same_through_restarts_and_new_keys(tmp_path: Path) -> None:
    vault = Vault.open(tmp_path, {})
    before = vault.derived("links")
    assert len(before) == 32
    assert before != vault.derived("other")
    vault.add_key()
    assert vault.derived("links") == before
    assert Vault.open(tmp_path, {}).derived("links") == before


@pytest.mark.parametrize("words", ["short", "x" * 44, "A" * 43 + "= oops"], ids=["short", "no base64", "more words"])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        Vault.open(tmp_path, {"ISTHMUS_SECRET_KEY": words})
    assert caught.value.place == "ISTHMUS_SECRET_KEY"
    assert words not in str(caught.value)


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.key").touch(mode=0o600)
    with pytest.raises(Invalid, match="no key"):
        Vault.open(tmp_path, {})

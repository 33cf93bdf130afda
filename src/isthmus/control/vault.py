"""The vault: encrypts what must not be read from the database alone. Its keys lie beside it, never in it.

    DATA/secret.key      0600; one key a line (44 characters of base64): the first encrypts, all decrypt
    ISTHMUS_SECRET_KEY   instead of the file: keys parted by spaces or commas, in the same order

Ciphertexts are Fernet tokens (AES-128-CBC with HMAC-SHA256; https://github.com/fernet/spec): a wrong key or a changed
byte is noticed.
"""

import contextlib
import fcntl
import hmac
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from isthmus.domain.errors import Conflict, Invalid, Unavailable

VARIABLE = "ISTHMUS_SECRET_KEY"
FILE = "secret.key"


class Vault:
    """Encrypts and decrypts with the keys of one control plane."""

    def __init__(self, keys: list[bytes], *, path: Path | None = None) -> None:
        self._path = path  # None: the keys are from the environment
        self._fernet = _fernet(keys)
        self._oldest = keys[-1]

    @classmethod
    def open(cls, data: Path, environment: Mapping[str, str] | None = None) -> "Vault":
        """The vault of a data folder, or of the environment where that names keys. Makes a key at the first start.

        Blocks for the file. Raises Invalid for something that is no key, and Conflict when others may read the file.
        """
        given = (os.environ if environment is None else environment).get(VARIABLE, "")
        if given.strip():
            return cls([key.encode() for key in given.replace(",", " ").split()])
        path = data / FILE
        with _locked(data):
            if not path.exists():
                _write(path, [Fernet.generate_key()])
        return cls(_read(path), path=path)

    def encrypt(self, plain: bytes) -> bytes:
        """A ciphertext; another one each time."""
        return self._fernet.encrypt(plain)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """What was encrypted. Raises Unavailable when the key that did it is not here, or a byte was changed."""
        with contextlib.suppress(InvalidToken):
            return self._fernet.decrypt(ciphertext)
        if self._path is not None:  # another process may have added a key
            self._fernet = _fernet(_read(self._path))
            with contextlib.suppress(InvalidToken):
                return self._fernet.decrypt(ciphertext)
        where = str(self._path or VARIABLE)
        raise Unavailable(
            f"A secret can't be decrypted with the keys in {where}.",
            hint="Bring back the key that it was encrypted with as one more line, or set the secret again.",
            code="secret-key-missing",
        )

    def derived(self, purpose: str) -> bytes:
        """32 secret bytes for one purpose: the same in every process with these keys, until the oldest key is gone."""
        return hmac.digest(self._oldest, b"isthmus: " + purpose.encode(), "sha256")

    def reencrypt(self, ciphertext: bytes) -> bytes:
        """The same, encrypted by the first key. Raises like :meth:`decrypt`."""
        return self.encrypt(self.decrypt(ciphertext))

    def add_key(self) -> None:
        """Make a new first key; the older ones go on decrypting. Blocks. Raises Conflict for the environment's keys."""
        if self._path is None:
            raise Conflict(
                f"The keys are those of {VARIABLE}, which only its owner can change.",
                hint=f"Put a new key before the others in {VARIABLE}, restart, then do this again.",
            )
        with _locked(self._path.parent):
            keys = [Fernet.generate_key(), *_read(self._path)]
            _write(self._path, keys)
        self._fernet = _fernet(keys)

    @property
    def from_environment(self) -> bool:
        return self._path is None


def _fernet(keys: list[bytes]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise Invalid(
            "There is a word among the secret keys that is no key.",
            place=VARIABLE,
            hint="A key is 32 random bytes in base64: head -c 32 /dev/urandom | base64 | tr +/ -_",
        ) from None


def _read(path: Path) -> list[bytes]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise Conflict(
            f"Others may read {path} (mode {mode:o}), which holds the key to all secrets.",
            hint=f"Run: chmod 600 {path}",
            code="secret-key-exposed",
        )
    return path.read_bytes().split()


def _write(path: Path, keys: list[bytes]) -> None:
    """Put the file in its place whole: a key that was ever used must not be lost by a crash."""
    coming = path.with_suffix(".new")
    coming.unlink(missing_ok=True)  # of a crash; nobody else writes it, under the lock
    with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(b"\n".join([*keys, b""]))
        file.flush()
        os.fsync(file.fileno())
    coming.replace(path)
    with _opened(path.parent) as folder:
        os.fsync(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process or thread at a time makes keys: of two that do it at once, each would lose the other's."""
    with _opened(folder) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

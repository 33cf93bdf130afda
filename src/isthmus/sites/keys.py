"""SSH keys: pairs made here for one user at one site, and the fingerprints that people compare."""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from isthmus.domain.errors import Invalid


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair of a user at a site. The private part must only be kept encrypted."""

    private: bytes = field(repr=False)  # in OpenSSH's format
    public: str  # a line for ~/.ssh/authorized_keys


def generate(comment: str = "isthmus") -> KeyPair:
    """A new ed25519 pair."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return KeyPair(private, public_line(private, comment))


def public_line(private: bytes, comment: str = "isthmus") -> str:
    """The public half of a private key, as a line for ~/.ssh/authorized_keys. Raises Invalid."""
    try:
        key = serialization.load_ssh_private_key(private, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid(
            f"That is not a private key that can be used: {error}.",
            hint="Give an unencrypted key in OpenSSH's format, or use an agent.",
        ) from error
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{line.decode()} {comment}".strip()


def fingerprint(line: str) -> str:
    """`SHA256:…` of a public key such as `ssh-ed25519 AAAA…`, as `ssh-keygen -l` shows it. Raises Invalid."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(_blob(line)).digest()).decode().rstrip("=")


def normal(line: str) -> str:
    """A public key without its comment: what is pinned and compared. Raises Invalid."""
    _blob(line)
    return " ".join(line.split()[:2])


def _blob(line: str) -> bytes:
    words = line.split()
    wrong = Invalid(f"{line[:60]!r} is not a public key.", hint="It looks like: ssh-ed25519 AAAAC3Nza…")
    if len(words) < 2:
        raise wrong
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        raise wrong from None
    # RFC 4253, 6.6: the blob begins with the length and the name of the key's type.
    length = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + length].decode(errors="replace") != words[0]:
        raise wrong
    return blob

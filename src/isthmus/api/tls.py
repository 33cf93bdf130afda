"""TLS of the server: a certificate of one's own by path, or a self-signed one made on request, which clients pin.

DATA/tls/server.crt   self-signed, valid for ten years: who pinned it goes on trusting it until then
DATA/tls/server.key   0600
"""

import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.domain.errors import Invalid

FOLDER = "tls"
VALID = timedelta(days=3650)
RENEW = timedelta(days=30)  # a self-signed one that ends sooner is made anew


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that the server can use, and what people need to know of it."""

    cert: Path
    key: Path
    pem: str  # all of the file: the server's own first, then those that signed it
    fingerprint: str  # "SHA256:ab:cd:…" of its own
    self_signed: bool
    names: tuple[str, ...]  # hosts and addresses that it stands for
    ends_at: datetime
    made: bool = False  # just now

    def lacks(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """Which of the hosts it does not stand for: who checks names there will refuse it."""
        return tuple(host for host in hosts if not any(_matches(name, host) for name in self.names))


def self_signed(data: Path, hosts: Sequence[str] = (), *, now: datetime | None = None) -> Certificate:
    """The self-signed certificate of a data folder; made for this machine and ``hosts`` when there is none.

    One that exists is kept though it may lack a host (see `Certificate.lacks`), since people have pinned it; removing
    the folder has a new one made. Blocks.
    """
    at = now or datetime.now(UTC)
    folder = data / FOLDER
    cert, key = folder / "server.crt", folder / "server.key"
    if cert.exists() and key.exists():
        found = load(cert, key)
        if found.ends_at - at > RENEW:
            return found
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_pem, cert_pem = _make([*_this_machine(), *hosts], at)
    # The certificate comes last: a crash between the two leaves a pair that does not match its own test, never one
    # that is served.
    cert.unlink(missing_ok=True)
    _write(key, key_pem, 0o600)
    _write(cert, cert_pem, 0o644)
    return _read(cert, key, made=True)


def load(cert: Path, key: Path) -> Certificate:
    """A certificate (with its chain) and its key, by path. Raises Invalid with what is wrong with them. Blocks."""
    for place, path in (("tls-cert", cert), ("tls-key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise Invalid(f"{path} can't be read: {error.strerror}.", place=place) from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: b"")
    except ssl.SSLError as error:
        reason = "the key is not the certificate's" if error.reason == "KEY_VALUES_MISMATCH" else error.reason
        hint = "Both must be in PEM, the key without a passphrase."
        raise Invalid(f"{cert} with {key} is of no use: {reason}.", place="tls-cert", hint=hint) from None
    return _read(cert, key)


def _read(cert: Path, key: Path, *, made: bool = False) -> Certificate:
    pem = cert.read_text("ascii")
    own = x509.load_pem_x509_certificates(pem.encode())[0]
    digest = own.fingerprint(hashes.SHA256()).hex()
    return Certificate(
        cert=cert,
        key=key,
        pem=pem,
        fingerprint="SHA256:" + ":".join(digest[i : i + 2] for i in range(0, len(digest), 2)),
        self_signed=own.issuer == own.subject,
        names=_names(own),
        ends_at=own.not_valid_after_utc,
        made=made,
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses))


def _matches(name: str, host: str) -> bool:
    if name.startswith("*."):
        return host.partition(".")[2].lower() == name[2:].lower()
    return name.lower() == host.lower()


def _this_machine() -> list[str]:
    return ["localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()]


def _make(hosts: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Isthmus"), x509.NameAttribute(
        NameOID.SERIAL_NUMBER, os.urandom(8).hex())])  # fmt: skip
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    # What RFC 5280 asks for, since newer clients (Python 3.13) check it to the letter.
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # a client's clock may be behind
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([_general(host) for host in dict.fromkeys(hosts) if host]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    plain = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return plain, certificate.public_bytes(encoding)


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: Path, data: bytes, mode: int) -> None:
    coming = path.with_name(path.name + ".new")
    coming.unlink(missing_ok=True)
    with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    coming.replace(path)

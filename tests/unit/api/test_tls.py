"""Certificates: made, kept, loaded, and what clients make of them."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.api.tls import VALID, Certificate, load, self_signed
from isthmus.domain.errors import Invalid


async def shake_hands(certificate: Certificate, client: ssl.SSLContext, host: str) -> bytes:
    """A real connection; answers with the certificate that the client was shown."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate.cert, certificate.key)

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(shown)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "isthmus.example.org", "10.1.2.3"])
async def test_clients_that_pin_it_connect_by_every_name(tmp_path: Path, host: str) -> None:
    certificate = self_signed(tmp_path, ["isthmus.example.org", "10.1.2.3"])
    client = ssl.create_default_context(cadata=certificate.pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # what Python 3.13 does by itself
    shown = await shake_hands(certificate, client, host)
    digest = hashlib.sha256(shown).hexdigest()
    assert certificate.fingerprint.replace(":", "").lower() == "sha256" + digest


async def test_others_do_not_trust_it(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(certificate, ssl.create_default_context(), "localhost")
    pinned = ssl.create_default_context(cadata=certificate.pem)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await shake_hands(certificate, pinned, "elsewhere.example.org")
    (tmp_path / "other").mkdir()
    impostor = self_signed(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        await shake_hands(impostor, ssl.create_default_context(cadata=certificate.pem), "localhost")


def test_it_is_made_once_and_kept(tmp_path: Path) -> None:
    first = self_signed(tmp_path, ["a.example.org"])
    assert first.made
    assert first.self_signed
    again = self_signed(tmp_path, ["a.example.org", "b.example.org"])
    assert not again.made
    assert again.fingerprint == first.fingerprint
    assert again.lacks(["a.example.org", "b.example.org", "127.0.0.1"]) == ("b.example.org",)


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    assert certificate.key.stat().st_mode & 0o777 == 0o600
    assert certificate.key.parent.stat().st_mode & 0o777 == 0o700


def test_one_that_ends_soon_is_made_anew(tmp_path: Path) -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    first = self_signed(tmp_path, now=start)
    assert first.ends_at == start + VALID
    kept = self_signed(tmp_path, now=first.ends_at - timedelta(days=31))
    assert kept.fingerprint == first.fingerprint
    fresh = self_signed(tmp_path, now=first.ends_at - timedelta(days=29))
    assert fresh.made
    assert fresh.fingerprint != first.fingerprint


def test_one_of_ones_own_is_loaded(tmp_path: Path) -> None:
    made = self_signed(tmp_path, ["a.example.org"])
    loaded = load(made.cert, made.key)
    assert loaded.fingerprint == made.fingerprint
    assert "a.example.org" in loaded.names


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("none.crt", "own.key", "none.crt can't be read: No such file"),
        ("own.crt", "none.key", "none.key can't be read: No such file"),
        ("junk", "own.key", "is of no use"),
        ("own.crt", "junk", "is of no use"),
        ("own.crt", "other.key", "the key is not the certificate's"),
    ],
)
def test_what_can_not_be_used_is_refused_with_the_reason(tmp_path: Path, cert: str, key: str, words: str) -> None:
    for name in ("own", "other"):
        (tmp_path / f"{name}.d").mkdir()
        made = self_signed(tmp_path / f"{name}.d")
        (tmp_path / f"{name}.crt").write_bytes(made.cert.read_bytes())
        (tmp_path / f"{name}.key").write_bytes(made.key.read_bytes())
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(Invalid, match=words) as caught:
        load(tmp_path / cert, tmp_path / key)
    assert caught.value.place in ("tls-cert", "tls-key")


def test_a_wildcard_stands_for_one_word(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, ["*.example.org"])
    assert certificate.lacks(["a.example.org", "A.Example.org"]) == ()
    assert certificate.lacks(["a.b.example.org", "example.org"]) == ("a.b.example.org", "example.org")

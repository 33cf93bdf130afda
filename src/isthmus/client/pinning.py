"""TLS: trusting exactly the certificate that was seen before, or that somebody read out.

A pinned certificate is itself the only anchor of trust, so every later handshake proves it; no name is compared,
because the certificate is.
"""

import hashlib
import re
import ssl
from urllib.parse import urlsplit

from isthmus.domain.errors import Invalid, Unauthenticated, Unavailable


def pinned(pem: str) -> ssl.SSLContext:
    """What verifies that the server shows this very certificate."""
    made = _trusting(pem)
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    made.check_hostname = False
    return made


def authority(pem: str) -> ssl.SSLContext:
    """What verifies that the server shows a certificate for its name, signed by this authority."""
    return _trusting(pem)


def _trusting(pem: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid(f"This is not a certificate in PEM: {error}.", place="certificate") from None
    return made


def fingerprint(pem: str) -> str:
    """``SHA256:ab:cd:…`` of the first certificate."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    return "SHA256:" + ":".join(digest[i : i + 2] for i in range(0, 64, 2))


def normal(text: str) -> str:
    """The 64 hex digits of a fingerprint however it is written. Raises Invalid."""
    digits = re.sub(r"^sha-?256[:=]", "", text.strip(), flags=re.IGNORECASE).replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise Invalid(
            f"{text[:80]!r} is not a SHA-256 fingerprint.",
            place="fingerprint",
            hint="`isthmus up` prints it: SHA256: and 32 pairs of hex digits.",
        )
    return digits


def shown(url: str, *, timeout_s: float = 10.0) -> str:
    """The certificate that the server shows now, in PEM, unverified: compare its fingerprint. Blocks."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        return ssl.get_server_certificate((host, port), timeout=timeout_s)
    except ssl.SSLError as error:
        raise Unavailable(f"{host}:{port} does not speak TLS: {error.reason}.", hint="Is it http:// ?") from None
    except OSError as error:
        raise Unavailable(
            f"No server answers at {url} ({error.strerror or error}).",
            hint="Start one with `isthmus up`.",
            code="no-server",
        ) from None


def fetch(url: str, wanted: str) -> str:
    """The server's certificate, if its fingerprint is the one wanted. Raises Unauthenticated. Blocks."""
    digits = normal(wanted)
    pem = shown(url)
    if normal(fingerprint(pem)) != digits:
        raise Unauthenticated(
            f"The server at {url} shows another certificate: {fingerprint(pem)}.",
            hint="Ask whoever runs it whether the certificate was renewed; if not, somebody is in between.",
            code="wrong-certificate",
        )
    return pem

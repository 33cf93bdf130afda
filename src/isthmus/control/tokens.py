"""The tokens of attempts: good for one attempt's reports alone, and only while it is live.

A token is derived from the attempt's key, so that an attempt which is submitted again after a crash has the same
one; the row keeps its hash, which is emptied with the attempt's end.
"""

import base64
import hashlib
import hmac


class AttemptTokens:
    """Makes and checks tokens. ``secret`` is this control plane's own, at least 16 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"isthmus attempt tokens\0" + secret).digest()

    def token(self, key: str) -> str:
        """The token of the attempt with this key."""
        return base64.urlsafe_b64encode(hmac.digest(self._secret, key.encode(), "sha256")).decode().rstrip("=")

    def hash(self, key: str) -> str:
        """What the attempt's row keeps."""
        return _hash(self.token(key))

    def matches(self, kept: str, token: str) -> bool:
        """Whether this is the token whose hash was kept."""
        return bool(kept) and hmac.compare_digest(kept, _hash(token))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

"""Objects in Redis: for programs and tasks on several machines. One key an object, `isthmus:object:ID`."""

from isthmus.domain.errors import Invalid, Unavailable

_PREFIX = "isthmus:object:"
_MOST = 512 * 1024 * 1024  # what Redis keeps under one key


class Redis:
    """See the module. Implements `Backend`."""

    def __init__(self, address: str) -> None:
        try:
            import redis
        except ImportError:
            raise Invalid(
                "Objects in Redis need its client.", place=address, hint="pip install 'isthmus[redis]'"
            ) from None
        self._client = redis.Redis.from_url(address, socket_connect_timeout=10)
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise Unavailable(f"Redis does not answer at {address}: {error}") from error

    def put(self, id: str, data: bytes) -> None:
        if len(data) > _MOST:
            raise Invalid(f"{id!r} has {len(data)} bytes; Redis keeps {_MOST} under a name.")
        self._client.set(_PREFIX + id, data)

    def get(self, id: str) -> bytes | None:
        found = self._client.get(_PREFIX + id)
        return bytes(found) if isinstance(found, bytes) else None  # never text: the client decodes nothing

    def delete(self, id: str) -> bool:
        return bool(self._client.delete(_PREFIX + id))

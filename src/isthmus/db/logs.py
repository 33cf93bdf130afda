"""Logs of attempts, in compressed chunks by byte offset. `attempts.log` says how many bytes are here.

What comes may overlap what is here (two ways bring it): that part is skipped. What would leave a gap is not taken,
and the answer says which offset is wanted.
"""

import zlib

from sqlalchemy import Connection, func, select, update

from isthmus.db.notifications import tell
from isthmus.db.schema import attempts, log_chunks

CHUNK = 256 * 1024  # no chunk is longer, so that a look into the middle unpacks little


def topic(attempt_id: int) -> str:
    """What is told of when an attempt's log grows."""
    return f"log:{attempt_id}"


def size(connection: Connection, attempt_id: int) -> int:
    """How many bytes of the attempt's log are here; 0 for an attempt that does not exist."""
    return connection.execute(select(attempts.c.log).where(attempts.c.id == attempt_id)).scalar() or 0


def append(connection: Connection, attempt_id: int, begin: int, data: bytes) -> int:
    """Keep the bytes that begin at offset ``begin`` of the log. The offset that is wanted next."""
    have = size(connection, attempt_id)
    if begin > have or begin + len(data) <= have:
        return have
    fresh = memoryview(data)[have - begin :]
    rows = [
        {
            "attempt_id": attempt_id,
            "begin": have + start,
            "size": len(part),
            "data": zlib.compress(part, 1),
        }
        for start in range(0, len(fresh), CHUNK)
        for part in [fresh[start : start + CHUNK]]
    ]
    connection.execute(log_chunks.insert(), rows)
    end = have + len(fresh)
    connection.execute(update(attempts).where(attempts.c.id == attempt_id).values(log=end))
    tell(connection, topic(attempt_id))
    return end


def read(connection: Connection, attempt_id: int, offset: int, limit: int) -> bytes:
    """Up to ``limit`` bytes of the log from ``offset``; less at its end."""
    if limit <= 0:
        return b""
    own = log_chunks.c.attempt_id == attempt_id
    # The chunk that holds the offset is the last one that begins at or before it.
    first = select(func.max(log_chunks.c.begin)).where(own, log_chunks.c.begin <= offset).scalar_subquery()
    chunks = (
        select(log_chunks.c.begin, log_chunks.c.data)
        .where(own, log_chunks.c.begin >= first, log_chunks.c.begin < offset + limit)
        .order_by(log_chunks.c.begin)
    )
    parts: list[bytes] = []
    for begin, data in connection.execute(chunks):
        text = zlib.decompress(data)
        parts.append(text[max(0, offset - begin) : offset + limit - begin])
    return b"".join(parts)

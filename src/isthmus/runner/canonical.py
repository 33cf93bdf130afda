"""The one form of a folder as bytes: its canonical tar. Its sha256 is the folder's digest.

docs/site-protocol.md ("Digests") says what it is in words; this is its definition. The same folder gives the same
bytes on every machine and Python, so a stream can be checked, and cut and gone on with from any byte, like a file.
It owns packing, measuring, checking and unpacking, and knows nothing of jobs, caches or transfers; the control plane
and the client use it too.
"""

import errno
import hashlib
import os
import stat
from collections import namedtuple

BLOCK = 512
SHORT = 100  # bytes of a name that fit into a header
MAGIC = b"ustar  \0"  # of GNU tar
FILE, LINK, FOLDER, LONG_NAME, LONG_TARGET = b"0", b"2", b"5", b"L", b"K"
CHUNK = 1 << 20
END = b"\0" * (2 * BLOCK)
MODE_FOLDER = 0o755
MODE_FILE = 0o644
MODE_PROGRAM = 0o755
MODE_LINK = 0o777
LONGEST_NAME = 1 << 16
FEW = 50  # files that are flushed one by one

Member = namedtuple("Member", "name kind mode size target")  # name and target are bytes


class NotCanonical(Exception):
    """The folder has something in it that can't travel, or changed while it was read; or a stream is not one."""

    def __init__(self, message):
        # type: (str) -> None
        super().__init__(message)
        self.message = message


def entries(folder):
    """The members of a folder in canonical order, as ``(name, path, stat)``; names are bytes, ``a/b``.

    A folder comes before what lies in it; the entries of one folder are sorted by their bytes. The folder itself is
    not among them. Symbolic links are members, never followed.
    """
    pending = [(b"", os.fsencode(folder))]
    while pending:
        name, path = pending.pop()
        if name:
            yield name, path, os.lstat(path)
            if os.path.islink(path) or not os.path.isdir(path):
                continue
        prefix = name + b"/" if name else b""
        children = sorted(os.listdir(path), reverse=True)
        pending.extend((prefix + child, os.path.join(path, child)) for child in children)


def stream(folder, offset=0):
    """Yield the canonical tar of a folder, in pieces, from byte ``offset`` on.

    What lies before the offset is not read, only measured. Raises NotCanonical when a file changes its size on the way
    or is neither a file, a folder nor a link; OSError when it can't be read.
    """
    begin = 0  # of the part at hand, within the whole stream
    for name, path, status in entries(folder):
        member = _member_of(name, path, status)
        head = _encode(member)
        if offset < begin + len(head):
            yield head[max(0, offset - begin) :]
        begin += len(head)
        padded = _padded(member.size)
        if offset < begin + padded:
            for piece in _content(path, member.size, max(0, offset - begin)):
                yield piece
        begin += padded
    if offset < begin + len(END):
        yield END[max(0, offset - begin) :]


def measure(folder):
    """The length of the canonical stream, without reading any file."""
    total = len(END)
    for name, path, status in entries(folder):
        member = _member_of(name, path, status)
        total += len(_encode(member)) + _padded(member.size)
    return total


def digest(folder):
    """``(sha256 as 64 hex digits, length)`` of a folder's canonical stream."""
    known = hashlib.sha256()
    length = 0
    for piece in stream(folder):
        known.update(piece)
        length += len(piece)
    return known.hexdigest(), length


def unpack(source, folder):
    """Make a new folder from a canonical stream (a binary file); ``(sha256, length)`` of what was read.

    Whatever is not in canonical form is refused with NotCanonical: so nothing is written outside of the folder, nor
    through a link. The caller removes the folder after an error. Everything is flushed to the disk.
    """
    reader = _Reader(source)
    top = os.fsencode(folder)
    os.mkdir(top, 0o700)
    folders, files = [top], []
    for member in _members(reader):
        path = os.path.join(top, member.name)
        if member.kind == FOLDER:
            os.mkdir(path, 0o700)
            folders.append(path)
        elif member.kind == LINK:
            os.symlink(member.target, path)
        else:
            _write(reader, path, member)
            files.append(path)
    for path in reversed(folders):
        os.chmod(path, MODE_FOLDER)
    if len(files) < FEW or not flush_file_system(top):
        for path in files + folders[::-1]:
            _flush(path)
    return reader.known.hexdigest(), reader.length


def check(source):
    """``(sha256, length)`` of a canonical stream (a binary file), without writing anything. Raises NotCanonical."""
    reader = _Reader(source)
    for member in _members(reader):
        left = member.size
        while left:
            left -= len(reader.some(min(CHUNK, left)))
        _skip_padding(reader, member)
    return reader.known.hexdigest(), reader.length


class _Reader:
    """Reads exactly so many bytes, and knows the digest of all that went by."""

    def __init__(self, source):
        self._read = source.read
        self._left = b""
        self.known = hashlib.sha256()
        self.length = 0

    def some(self, limit):
        piece = self._left or self._read(max(limit, CHUNK))
        self._left = piece[limit:]
        piece = piece[:limit]
        if not piece:
            raise NotCanonical("The folder's stream ends at byte %d, before its end." % self.length)
        self.known.update(piece)
        self.length += len(piece)
        return piece

    def exactly(self, size):
        parts = []
        while size:
            parts.append(self.some(size))
            size -= len(parts[-1])
        return b"".join(parts)

    def at_end(self):
        return not self._left and not self._read(1)


def _member_of(name, path, status):
    if stat.S_ISREG(status.st_mode):
        mode = MODE_PROGRAM if status.st_mode & stat.S_IXUSR else MODE_FILE
        return Member(name, FILE, mode, status.st_size, b"")
    if stat.S_ISDIR(status.st_mode):
        return Member(name, FOLDER, MODE_FOLDER, 0, b"")
    if stat.S_ISLNK(status.st_mode):
        return Member(name, LINK, MODE_LINK, 0, os.readlink(path))
    raise NotCanonical("%s is neither a file, a folder nor a link." % os.fsdecode(path))


def _encode(member):
    """The header of a member: one block, after a long name's and a long target's own blocks.

    By hand, because the standard library's tarfile changed some bytes of it between Python 3.8 and 3.9.
    """
    name = member.name + b"/" if member.kind == FOLDER else member.name
    head = b""
    if len(member.target) > SHORT:
        head += _long(LONG_TARGET, member.target)
    if len(name) > SHORT:
        head += _long(LONG_NAME, name)
    return head + _block(name, member.kind, member.mode, member.size, member.target)


def _long(kind, text):
    text += b"\0"
    return _block(b"././@LongLink", kind, 0, len(text), b"") + text.ljust(_padded(len(text)), b"\0")


def _block(name, kind, mode, size, target):
    octal = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    fields = (
        name[:SHORT].ljust(SHORT, b"\0"),
        b"%07o\0" % mode,
        b"0000000\0" * 2,  # owner and group
        octal,
        b"00000000000\0",  # time
        b" " * 8,  # the checksum is taken with blanks in its place
        kind,
        target[:SHORT].ljust(SHORT, b"\0"),
        MAGIC,
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _padded(size):
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _content(path, size, skip):
    """The bytes of a file from ``skip`` on, then zeros up to a whole block."""
    left = size - skip
    if left > 0:
        with open(path, "rb", buffering=0) as file:
            file.seek(skip)
            while left:
                piece = file.read(min(CHUNK, left))
                if not piece:
                    raise NotCanonical("%s became shorter while it was read." % os.fsdecode(path))
                yield piece
                left -= len(piece)
            if file.read(1):
                raise NotCanonical("%s became longer while it was read." % os.fsdecode(path))
    padding = _padded(size) - max(size, skip)
    if padding > 0:
        yield b"\0" * padding


def _members(reader):
    """Each Member of the stream; the caller reads the content of a file before it asks for the next."""
    made = {b""}  # folders of this stream: what lies in any other place is refused
    before = []  # type: list
    while True:
        member = _member(reader)
        if member is None:
            return
        parts = member.name.split(b"/")
        shown = os.fsdecode(member.name)
        if b"" in parts or b"." in parts or b".." in parts or b"\0" in member.name:
            raise NotCanonical("%r is not a name within the folder." % shown)
        if b"/".join(parts[:-1]) not in made:
            raise NotCanonical("%s lies in no folder of this stream." % shown)
        if parts <= before:
            raise NotCanonical("%s is out of order." % shown)
        before = parts
        if member.kind == FOLDER:
            made.add(member.name)
        yield member


def _member(reader):
    """The next member, or None after the end of the stream. Refuses any other than the canonical header."""
    raw = b""
    long = {}
    while True:
        block = reader.exactly(BLOCK)
        if not raw and block == END[:BLOCK]:
            if reader.exactly(BLOCK) != END[:BLOCK] or not reader.at_end():
                raise NotCanonical("Something follows the end of the folder's stream.")
            return None
        raw += block
        kind = block[156:157]
        size = _number(block[124:136])
        if kind not in (LONG_NAME, LONG_TARGET):
            break
        if not 0 < size <= LONGEST_NAME or kind in long:
            raise NotCanonical("This is no folder's stream: a name of %d bytes." % size)
        text = reader.exactly(_padded(size))
        raw += text
        long[kind] = text[: size - 1]
    name = long.get(LONG_NAME, block[:SHORT].rstrip(b"\0"))
    if kind == FILE:
        program = _number(block[100:108]) & stat.S_IXUSR
        member = Member(name, FILE, MODE_PROGRAM if program else MODE_FILE, size, b"")
    elif kind == FOLDER:
        member = Member(name[:-1], FOLDER, MODE_FOLDER, 0, b"")
    elif kind == LINK:
        target = long.get(LONG_TARGET, block[157 : 157 + SHORT].rstrip(b"\0"))
        member = Member(name, LINK, MODE_LINK, 0, target)
    else:
        raise NotCanonical("%s is neither a file, a folder nor a link." % os.fsdecode(name))
    if _encode(member) != raw:
        raise NotCanonical("%s is not in the canonical form of a folder's stream." % os.fsdecode(name))
    return member


def _number(field):
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        raise NotCanonical("This is no folder's stream: %r is not a number." % field)


def _write(reader, path, member):
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as file:
        left = member.size
        while left:
            piece = memoryview(reader.some(min(CHUNK, left)))
            left -= len(piece)
            while piece:
                piece = piece[file.write(piece) :]
        os.fchmod(file.fileno(), member.mode)
    _skip_padding(reader, member)


def _skip_padding(reader, member):
    padding = _padded(member.size) - member.size
    if padding and reader.exactly(padding).strip(b"\0"):
        raise NotCanonical("%s is followed by something that is not padding." % os.fsdecode(member.name))


def flush_file_system(path):
    """One system call instead of one for each file, which takes many times as long; False where there is none."""
    import ctypes

    handle = os.open(path, os.O_RDONLY)
    try:
        return ctypes.CDLL(None).syncfs(handle) == 0
    except (AttributeError, OSError):
        return False
    finally:
        os.close(handle)


def _flush(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems can't
            raise
    finally:
        os.close(handle)

"""Records in an append-only file: each one whole and unharmed, or known not to be.

In: payloads (bytes). Out: a file of a signature and records, each `mark, length, CRC-32, payload`;
and back: the payloads up to the first place where the file is cut or harmed, with a report of that
place. What payloads mean is `episode_log.py`'s business.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIGNATURE = b"ARPLOG\x001"
_MARK = b"\xa5RC\x5a"
_HEAD = struct.Struct("<4sII")  # mark, payload length, CRC-32 of length and payload
# Far above four raw 1080p pictures: a longer length is a harmed one.
MAX_RECORD_BYTES = 256 * 1024**2


@dataclass(frozen=True)
class Damage:
    """Where reading ended before the file did.

    Attributes:
        offset: byte at which the first unreadable record begins.
        lost_bytes: from there to the end of the file.
        later_records: whole records found after the harmed one; 0 for a file that was cut.
        reason: "cut" (the last record is incomplete) or "harmed" (bytes were changed).
    """

    offset: int
    lost_bytes: int
    later_records: int
    reason: str

    def __str__(self) -> str:
        if self.reason == "cut":
            return f"the last record is incomplete: {self.lost_bytes} bytes lost"
        return (
            f"the record at byte {self.offset} is harmed (CRC): {self.lost_bytes} bytes lost, "
            f"with {self.later_records} whole records among them"
        )


class RecordFile:
    """Appends records to a new file; one thread only.

    Each record goes to the operating system at once, so that it survives the death of the process;
    `sync` makes it survive the loss of power too.

    Args:
        path: must not exist.

    Raises:
        FileExistsError: it does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._size = 0
        try:
            self._write(SIGNATURE)
            self.sync()
            _sync_folder(path.parent)
        except OSError:
            self.close()
            path.unlink(missing_ok=True)
            raise

    def append(self, payload: bytes) -> None:
        """Writes one record.

        Raises:
            ValueError: the payload is too long, or the file is closed.
            OSError: the disk is full or gone; the file ends with the record before, and further
                records can be tried.
        """
        if len(payload) > MAX_RECORD_BYTES:
            raise ValueError(f"{self.path}: record of {len(payload)} bytes is too long")
        if self._file < 0:
            raise ValueError(f"{self.path}: the log is closed")
        self._write(_HEAD.pack(_MARK, len(payload), _checksum(payload)) + payload)

    def sync(self) -> None:
        """Waits until everything written is on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Closes the file; twice does no harm."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            # Half a record in the middle would hide every later one.
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += len(content)


def read_records(path: Path) -> Iterator[bytes | Damage]:
    """Payloads in order; last, only if reading ended before the file did, what was lost.

    Raises:
        ValueError: the file cannot be read, or is no log of this version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(SIGNATURE):
        raise ValueError(
            f"{path}: no episode log (it begins with {content[: len(SIGNATURE)]!r}, "
            f"not with {SIGNATURE!r})"
        )
    offset = len(SIGNATURE)
    while offset < len(content):
        payload = _record_at(content, offset)
        if payload is None:
            yield _damage(content, offset)
            return
        yield payload
        offset += _HEAD.size + len(payload)


def _record_at(content: bytes, offset: int) -> bytes | None:
    """Payload of the record that begins at `offset`, None unless it is whole and unharmed."""
    if offset + _HEAD.size > len(content):
        return None
    mark, length, checksum = _HEAD.unpack_from(content, offset)
    begin = offset + _HEAD.size
    if mark != _MARK or length > MAX_RECORD_BYTES or begin + length > len(content):
        return None
    payload = content[begin : begin + length]
    return payload if _checksum(payload) == checksum else None


def _damage(content: bytes, offset: int) -> Damage:
    """What is wrong from `offset` on; looks for whole records behind it by their marks."""
    later, place = 0, content.find(_MARK, offset + 1)
    while place >= 0:
        payload = _record_at(content, place)
        step = 1
        if payload is not None:
            later += 1
            step = _HEAD.size + len(payload)
        place = content.find(_MARK, place + step)
    reason = "cut" if not later and _is_cut(content, offset) else "harmed"
    return Damage(offset, len(content) - offset, later, reason)


def _is_cut(content: bytes, offset: int) -> bool:
    """Whether the file ends inside the record, as after a kill or a full disk."""
    rest = content[offset : offset + _HEAD.size]
    if not _MARK.startswith(rest[: len(_MARK)]):
        return False
    if len(rest) < _HEAD.size:
        return True
    return bool(offset + _HEAD.size + _HEAD.unpack(rest)[1] > len(content))


def _checksum(payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(len(payload).to_bytes(4, "little")))


def _sync_folder(folder: Path) -> None:
    """The file's name is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

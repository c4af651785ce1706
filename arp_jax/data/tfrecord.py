"""TFRecord framing: a file is a sequence of length-prefixed records, each guarded by two checksums.

In: the path of a shard. Out: the bytes of its records, in order, every checksum verified. What the
bytes mean (a serialised `tf.train.Example`) is `tf_example.py`'s business.

Source: TensorFlow's TFRecord format: uint64 length, masked CRC32C of the length, payload, masked
CRC32C of the payload, all little-endian.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

_LENGTH_HEADER = struct.Struct("<QI")
_PAYLOAD_FOOTER = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """CRC32C, rotated and offset so that a checksum of data with checksums in it stays useful."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def frame_record(payload: bytes) -> bytes:
    """Returns `payload` with its header and footer; concatenated frames make a TFRecord file."""
    length = struct.pack("<Q", len(payload))
    header = length + struct.pack("<I", masked_crc32c(length))
    return header + payload + _PAYLOAD_FOOTER.pack(masked_crc32c(payload))


def read_tfrecord(path: Path) -> Iterator[bytes]:
    """Yields the payload of every record of the shard, in order.

    Raises:
        ValueError: a checksum differs or the file ends inside a record; the message gives the
            record's number and its byte position.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        record = 0
        while file.tell() < size:
            yield _read_record(file.read, f"record {record} at byte {file.tell()}", size)
            record += 1


def _read_record(read, where: str, file_size: int) -> bytes:
    header = read(_LENGTH_HEADER.size)
    if len(header) < _LENGTH_HEADER.size:
        raise ValueError(f"{where}: the file ends inside the record's header (truncated copy?)")
    length, length_crc = _LENGTH_HEADER.unpack(header)
    if masked_crc32c(header[:8]) != length_crc:
        raise ValueError(f"{where}: CRC32C of the record's length differs (file is corrupt)")
    # A length beyond the file would make read() allocate for nothing: refuse it beforehand.
    payload = read(length) if length <= file_size else b""
    footer = read(_PAYLOAD_FOOTER.size)
    if len(payload) < length or len(footer) < _PAYLOAD_FOOTER.size:
        raise ValueError(f"{where}: the file ends inside the record's data (truncated copy?)")
    if masked_crc32c(payload) != _PAYLOAD_FOOTER.unpack(footer)[0]:
        raise ValueError(f"{where}: CRC32C of the record's data differs (file is corrupt)")
    return payload

"""Reading a Diffusion-Policy replay: a zarr (version 2) group of arrays over all steps.

In: the folder. Out: its arrays, read a range of steps at a time; `meta/episode_ends` cuts them into
episodes. Only what such replays use is supported: arrays chunked along the first axis, one
compressor, no filters. `download_replay` fetches the published recordings.
"""

import hashlib
import json
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from tqdm import tqdm

OFFICIAL_URL = "https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip"
# Shape of one step of each array of a Push-T replay.
PUSH_T_ARRAYS = {
    "img": (96, 96, 3),
    "state": (5,),
    "action": (2,),
    "keypoint": (9, 2),
    "n_contacts": (1,),
}


@dataclass
class ZarrArray:
    """One array of the group, cut into chunks along its first axis.

    Attributes:
        folder: the array's folder.
        shape, chunk_length, dtype: from its .zarray.
        codec: decompressor, or None when chunks are stored plain.
    """

    folder: Path
    shape: tuple[int, ...]
    chunk_length: int
    dtype: np.dtype
    codec: Any
    _cached: tuple[int, np.ndarray] | None = field(default=None, repr=False)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as an array [stop - start, ...].

        Raises:
            ValueError: a chunk's file is missing or damaged; the message names the file.
        """
        first, last = start // self.chunk_length, -(-stop // self.chunk_length)
        parts = []
        for index in range(first, last):
            offset = index * self.chunk_length
            parts.append(self._chunk(index)[max(start - offset, 0) : stop - offset])
        return np.concatenate(parts)

    def _chunk(self, index: int) -> np.ndarray:
        # Neighbouring episodes share a chunk: keep the last one.
        if self._cached is None or self._cached[0] != index:
            self._cached = (index, self._decode_chunk(index))
        return self._cached[1]

    def _decode_chunk(self, index: int) -> np.ndarray:
        path = self.folder / ".".join([str(index), *["0"] * (len(self.shape) - 1)])
        shape = (self.chunk_length, *self.shape[1:])
        try:
            stored = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path}: chunk is missing; copy the replay again") from error
        damaged = f"{path}: chunk is truncated or damaged; copy the replay again"
        # Blosc's header holds the compressed size; the library itself may read past a short buffer.
        if isinstance(self.codec, numcodecs.Blosc) and (
            len(stored) < 16 or int.from_bytes(stored[12:16], "little") != len(stored)
        ):
            raise ValueError(damaged)
        try:
            plain = self.codec.decode(stored) if self.codec else stored
            return np.frombuffer(plain, self.dtype).reshape(shape)
        except (RuntimeError, ValueError) as error:
            raise ValueError(damaged) from error


@dataclass(frozen=True)
class Replay:
    """A Push-T replay.

    Attributes:
        arrays: the arrays of `PUSH_T_ARRAYS`.
        episode_ends: [E] first step after each episode.
        digest: SHA-256 over states, actions and episode ends: which recordings these are.
    """

    arrays: dict[str, ZarrArray]
    episode_ends: np.ndarray
    digest: str

    def bounds(self) -> list[tuple[int, int]]:
        """First and end step of each episode."""
        ends = self.episode_ends.tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


def open_replay(path: str | Path) -> Replay:
    """Opens a Push-T replay folder and checks its arrays against each other.

    Raises:
        ValueError: the folder or one of its arrays is missing, has another shape, or is damaged.
    """
    folder = Path(path)
    if folder.is_file():
        raise ValueError(f"{folder}: is a file; unzip it and give the .zarr folder")
    if not (folder / ".zgroup").is_file():
        raise ValueError(f"{folder}: no zarr replay here; give the folder that ends in .zarr")
    ends_array = _open_array(folder / "meta" / "episode_ends")
    ends = ends_array.read(0, ends_array.shape[0])
    arrays = {name: _open_array(folder / "data" / name) for name in PUSH_T_ARRAYS}
    if ends.size == 0 or np.any(np.diff(ends, prepend=0) <= 0):
        raise ValueError(f"{folder}/meta/episode_ends: must increase from above 0; is it damaged?")
    for name, step_shape in PUSH_T_ARRAYS.items():
        if arrays[name].shape != (int(ends[-1]), *step_shape):
            raise ValueError(
                f"{folder}/data/{name}: shape {arrays[name].shape}, expected "
                f"{(int(ends[-1]), *step_shape)} by meta/episode_ends; is it a Push-T replay?"
            )
        if arrays[name].dtype != np.float32:
            raise ValueError(f"{folder}/data/{name}: dtype {arrays[name].dtype}, expected float32")
    digest = hashlib.sha256(np.ascontiguousarray(ends, np.int64).tobytes())
    for name in ("state", "action"):
        values = arrays[name].read(0, int(ends[-1]))
        if not np.isfinite(values).all():
            raise ValueError(f"{folder}/data/{name}: holds a value that is not finite")
        digest.update(values.tobytes())
    return Replay(arrays, ends, digest.hexdigest())


def _open_array(folder: Path) -> ZarrArray:
    path = folder / ".zarray"
    try:
        header = json.loads(path.read_text())
        shape, chunks = tuple(header["shape"]), tuple(header["chunks"])
        compressor = header["compressor"]
        supported = (
            header["zarr_format"] == 2
            and header["order"] == "C"
            and not header["filters"]
            and chunks[1:] == shape[1:]
        )
        codec = numcodecs.get_codec(compressor) if compressor else None
        array = ZarrArray(folder, shape, chunks[0], np.dtype(header["dtype"]), codec)
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: array is missing from the replay; copy it again") from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: is no zarr array header ({error}); copy it again") from error
    if not supported:
        raise ValueError(f"{path}: only zarr 2, C order, no filters, chunks along the first axis")
    return array


def download_replay(folder: Path, url: str = OFFICIAL_URL) -> Path:
    """Downloads and unpacks the published recordings, unless they are there already.

    Args:
        folder: where to keep them.
        url: of the zip file.

    Returns:
        The .zarr folder.

    Raises:
        ValueError: the address cannot be reached or does not hold a replay.
    """
    found = sorted(folder.glob("**/*.zarr"))
    if found:
        return found[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Unpack beside the target and rename: an interrupted download leaves no half replay behind.
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive, unpacked = Path(scratch) / "replay.zip", Path(scratch) / "replay"
        try:
            _fetch(url, archive)
            with zipfile.ZipFile(archive) as content:
                content.extractall(unpacked)
        except (urllib.error.URLError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{url}: download failed ({error}); fetch and unzip it elsewhere, then use --replay"
            ) from error
        if not list(unpacked.glob("**/*.zarr")):
            raise ValueError(f"{url}: holds no .zarr folder; give the replay with --replay")
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)
    return min(folder.glob("**/*.zarr"))


def _fetch(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=30) as response, target.open("wb") as file:
        total = int(response.headers.get("Content-Length") or 0) or None
        with tqdm(total=total, unit="B", unit_scale=True, desc="download") as bar:
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))

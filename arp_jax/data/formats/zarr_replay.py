"""Diffusion-Policy replays: zarr groups of arrays over all steps, cut into episodes.

In: a folder or zip file. Out: arrays (`zarr_array.py`) under `data/` and the episodes' bounds from
`meta/episode_ends`; for Push-T, checked against what its builder needs. `download_replay` fetches
the published recordings.
"""

import hashlib
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from arp_jax.data.formats.zarr_array import ZarrArray, open_array, open_store

OFFICIAL_URL = "https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip"
# Shape of one step of each array of a Push-T replay.
PUSH_T_ARRAYS = {
    "img": (96, 96, 3),
    "state": (5,),
    "action": (2,),
    "keypoint": (9, 2),
    "n_contacts": (1,),
}


@dataclass(frozen=True)
class Replay:
    """A replay.

    Attributes:
        arrays: name -> array of all steps.
        episode_ends: [E] first step after each episode.
        digest: SHA-256 over states, actions and episode ends: which recordings these are; "" where
            nobody asked.
    """

    arrays: dict[str, ZarrArray]
    episode_ends: np.ndarray
    digest: str

    def bounds(self) -> list[tuple[int, int]]:
        """First and end step of each episode."""
        ends = self.episode_ends.tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


def open_buffer(
    path: Path, names: Sequence[str] | None = None, fill_missing: bool = False
) -> Replay:
    """Opens any replay.

    Args:
        path: folder that ends in .zarr, or zip file.
        names: arrays wanted; None: all under data/.
        fill_missing: as in `zarr_array.open_array`.

    Raises:
        ValueError: no replay there; an array is missing, damaged, or shorter than the episodes.
    """
    store = open_store(path)
    ends_array = open_array(store, "meta/episode_ends", fill_missing)
    ends = ends_array.read(0, ends_array.shape[0])
    if ends.ndim != 1 or ends.size == 0 or np.any(np.diff(ends, prepend=0) <= 0):
        raise ValueError(f"{ends_array.name}: must increase from above 0; is it damaged?")
    found = store.keys("data")
    for name in names or ():
        if name not in found:
            raise ValueError(f"{path}: no array 'data/{name}'; there are {found}")
    wanted = found if names is None else names
    arrays = {name: open_array(store, f"data/{name}", fill_missing) for name in wanted}
    for array in arrays.values():
        if array.shape[0] < ends[-1]:
            raise ValueError(
                f"{array.name}: {array.shape[0]} steps, but meta/episode_ends ends at {ends[-1]}"
            )
    return Replay(arrays, ends, "")


def open_replay(path: str | Path) -> Replay:
    """Opens a Push-T replay folder and checks its arrays against each other.

    Raises:
        ValueError: the folder or one of its arrays is missing, has another shape, or is damaged.
    """
    folder = Path(path)
    if folder.is_file():
        raise ValueError(f"{folder}: is a file; unzip it and give the .zarr folder")
    store = open_store(folder)
    arrays = {name: open_array(store, f"data/{name}") for name in PUSH_T_ARRAYS}
    ends = open_buffer(folder, ()).episode_ends
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

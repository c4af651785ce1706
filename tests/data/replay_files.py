"""Diffusion-Policy replays written by the public zarr library, in a folder or a zip file."""

import shutil
import zipfile
from pathlib import Path

import numpy as np

LENGTHS = (5, 9, 4)


def replay_arrays(seed=0, lengths=LENGTHS):
    """Arrays of a small replay with two cameras, as robomimic's image sets have them."""
    rng = np.random.default_rng(seed)
    total = sum(lengths)
    return {
        "data/img": rng.integers(0, 256, (total, 12, 10, 3)).astype(np.float32),
        "data/wrist": rng.integers(0, 256, (total, 3, 8, 9), dtype=np.uint8),
        "data/state": rng.normal(size=(total, 5)).astype(np.float32),
        "data/keypoint": rng.normal(size=(total, 9, 2)),
        "data/action": rng.normal(size=(total, 2)).astype(np.float32),
        "data/reward": rng.uniform(size=total).astype(np.float32),
        "meta/episode_ends": np.cumsum(lengths).astype(np.int64),
    }


def write_replay(path: Path, arrays, *, chunks=7, split=False, compressor="zstd", **kwargs):
    """Writes a folder, or a zip file if the name says so.

    Args:
        chunks: steps in a chunk, so that episodes begin and end inside chunks.
        split: cut pictures along their height too.
        compressor: of Blosc, or None.
    """
    import numcodecs
    import zarr

    folder = path.with_suffix("") if path.suffix == ".zip" else path
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    for name, values in arrays.items():
        steps = min(chunks, len(values))
        shape = (steps, *values.shape[1:])
        if split and values.ndim == 4:
            shape = (steps, 5, 4, values.shape[3])
        codec = numcodecs.Blosc(cname=compressor) if compressor else None
        array = group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=shape, compressors=codec, **kwargs
        )
        array[...] = values
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder))
        shutil.rmtree(folder)
    return path

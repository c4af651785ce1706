"""`dataset_stats.pkl`, which ACT and Mobile ALOHA's code write beside their checkpoints.

In: the file, a pickle of numpy arrays (nothing in it is executed). Out: its vectors, and the maps
of state and action that the weights were trained with. Back: the same vectors as such a file.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from arp_jax.interop.numpy_pickle import read_pickle
from arp_jax.normalize import Affine

FILE = "dataset_stats.pkl"
STATS_PREFIX = "dataset_stats."  # of its vectors, where they join a state dict
Stats = dict[str, np.ndarray]


def read_dataset_stats(path: Path) -> Stats:
    """{name: float32 array} of the numbers in the file, `action_mean` [A] and so on.

    Raises:
        ValueError: naming the file: it is missing, or no pickle of a dict of numbers.
    """
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; training wrote {FILE} beside its checkpoints, and without it "
            "the actions have no units: name it with --stats=FILE"
        )
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no dict of statistics but {type(content).__name__}")
    arrays = {k: v for k, v in content.items() if isinstance(v, np.ndarray | np.number)}
    return {str(k): np.asarray(v, np.float32) for k, v in arrays.items() if v.dtype.kind in "fiu"}


def stats_vector(
    stats: Mapping[str, np.ndarray], name: str, size: int, where: object
) -> np.ndarray:
    """The finite float32 vector [size] called `name`; ValueError names the file `where`."""
    if name not in stats:
        found = ", ".join(sorted(stats)) or "nothing"
        raise ValueError(f"{where}: there is no {name!r}; there is {found}")
    vector = np.squeeze(stats[name])
    if vector.shape != (size,):
        raise ValueError(
            f"{where}: {name!r} has shape {vector.shape}, the policy has {size} values"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"{where}: {name!r} holds numbers that are not finite")
    return vector


def standard_affine(stats: Mapping[str, np.ndarray], name: str, size: int, where: object) -> Affine:
    """(x - `name`_mean) / `name`_std; raises as `stats_vector`, and for a std that is not > 0."""
    mean, std = (stats_vector(stats, f"{name}_{part}", size, where) for part in ("mean", "std"))
    if not (std > 0).all():
        raise ValueError(f"{where}: '{name}_std' has values that are not positive")
    return Affine(mean, std)


def write_dataset_stats(path: Path, stats: Mapping[str, np.ndarray]) -> None:
    """Writes such a file, for Python's pickle and any version of numpy."""
    content = pickle.dumps({name: np.array(value) for name, value in stats.items()}, protocol=2)
    # numpy 2 writes its own new name for a function that numpy 1 has, too; protocol 2 keeps names
    # as lines, so that the old one fits in. Both read it.
    path.write_bytes(content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))

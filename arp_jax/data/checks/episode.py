"""All checks of one episode, and what is kept of it for the comparison with the others.

In: an `EpisodeView`. Out: an `EpisodeReport`, a few kilobytes whatever the length. This runs in
worker processes (`checks/scan.py`); the comparison is `checks/compare.py`.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from arp_jax.data.checks.dims import Dim, Pair
from arp_jax.data.checks.findings import ACTION, EpisodeView, Finding
from arp_jax.data.checks.images import Repeats, check_images
from arp_jax.data.checks.pairs import Following, check_pairs, following_of
from arp_jax.data.checks.steps import check_flags, check_language, check_length, check_time
from arp_jax.data.checks.values import (
    Extent,
    check_gripper_range,
    check_range,
    check_units,
    extent_of,
)

# The band of a plot: least and greatest value in each hundredth of an episode.
BINS = 100


@dataclasses.dataclass(frozen=True)
class EpisodeReport:
    """One episode after its own checks.

    Attributes:
        number, length, file: of the episode; length 0 when it could not be read.
        findings: those that the episode proves by itself.
        extents: field -> `Extent`.
        following: how the state follows the action; None when nothing could be compared.
        repeats: camera -> `Repeats`.
        fingerprint: hash of action and state; "" for episodes too short to be told apart.
        instruction: the first one, or "".
    """

    number: int
    length: int
    file: str
    findings: tuple[Finding, ...]
    extents: Mapping[str, Extent] = dataclasses.field(default_factory=dict)
    following: Following | None = None
    repeats: Mapping[str, Repeats] = dataclasses.field(default_factory=dict)
    fingerprint: str = ""
    instruction: str = ""


def inspect_episode(
    view: EpisodeView,
    table: Mapping[str, Sequence[Dim]],
    pairs: Sequence[Pair],
    file: str,
    earlier: Sequence[Finding] = (),
) -> EpisodeReport:
    """Runs every check of one episode.

    Args:
        view: the episode.
        table: of `dims_of`.
        pairs: of `pairs_of`.
        file: the shard that holds it.
        earlier: findings made while the view was built (missing fields, NaN).
    """
    found = [*earlier, *check_length(view), *check_flags(view)]
    found += [*check_time(view), *check_language(view)]
    repeats: dict[str, Repeats] = {}
    following = None
    if view.length:
        pictures, repeats = check_images(view, table)
        found += pictures
    if view.length and ACTION in view.vectors:
        found += [*check_range(view, table), *check_units(view, table), *check_pairs(view, pairs)]
        found += check_gripper_range(view, table[ACTION])
        following = following_of(view, pairs)
    fields = [f for f in table if f in view.vectors and view.length]
    return EpisodeReport(
        number=view.number,
        length=view.length,
        file=file,
        findings=tuple(dataclasses.replace(f, file=file) for f in found),
        extents={f: extent_of(view.vectors[f], table[f]) for f in fields},
        following=following,
        repeats=repeats,
        fingerprint=_fingerprint(view) if view.length > 1 else "",
        instruction=(view.language or ("",))[0],
    )


def _fingerprint(view: EpisodeView) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for field, values in sorted(view.vectors.items()):
        digest.update(f"{field} {values.shape}".encode())
        digest.update(values.tobytes())
    # Episodes of pictures alone may have like actions: a look at the first and the last frame.
    for name, frames in sorted(view.images.items()):
        for frame in (frames[0], frames[-1]):
            digest.update(name.encode() + (frame if isinstance(frame, bytes) else frame.tobytes()))
    return digest.hexdigest()


def band_of(values: np.ndarray) -> np.ndarray:
    """Least and greatest value of [T, D] in each hundredth of the episode: float32 [2, BINS, D]."""
    edges = np.linspace(0, len(values), BINS + 1)
    begin = np.minimum(edges[:-1].astype(int), len(values) - 1)
    end = np.maximum(np.ceil(edges[1:]).astype(int), begin + 1)
    low = [values[a:b].min(axis=0) for a, b in zip(begin, end, strict=True)]
    high = [values[a:b].max(axis=0) for a, b in zip(begin, end, strict=True)]
    return np.stack([low, high]).astype(np.float32)


def merge_bands(total: dict[str, np.ndarray], bands: Mapping[str, np.ndarray]) -> None:
    """Widens the bands of `total` by those of further episodes, field by field."""
    for field, band in bands.items():
        if field not in total:
            total[field] = band.copy()
        else:
            np.minimum(total[field][0], band[0], out=total[field][0])
            np.maximum(total[field][1], band[1], out=total[field][1])

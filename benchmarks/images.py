"""Milliseconds to augment a batch of camera frames, ours beside Pillow.

    python benchmarks/images.py
    python benchmarks/images.py --batch 64 --size 224 --seconds 10 --out results/images.json

Out: a table, with --out the same as JSON. Ours is `arp_jax.models.image_augment.augment_images`,
one compiled call on this machine's default device; Pillow does the same operations picture by
picture in one thread (hue: our formula in numpy, because Pillow has none that keeps luma). Both run
in processes of their own, in turn; medians.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hardware import hardware, write_report
from sides import Side, in_turn

COLORS = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}
CASES: dict[str, dict[str, Any]] = {
    "random region": {"scale": (0.8, 1.0), "ratio": (0.9, 1.1)},
    "colours": COLORS,
    "random region and colours": {"scale": (0.8, 1.0), "ratio": (0.9, 1.1), **COLORS},
}


class Row(NamedTuple):
    """Medians of one case."""

    case: str
    ours_ms: float
    pillow_ms: float
    ratio: float
    ours_images_per_s: float


def frames(batch: int, size: int) -> np.ndarray:
    """uint8 [B, 1, size, size, 3]."""
    return np.random.default_rng(0).integers(0, 256, (batch, 1, size, size, 3), np.uint8)


def ours(options: dict[str, Any], batch: int, size: int) -> Callable[[], Any]:
    """Augments on the default device; the frames are there already, as in a training step."""
    import jax

    from arp_jax.models.image_augment import ImageAugment, augment_images

    images, config = jax.device_put(frames(batch, size)), ImageAugment(**options)
    key = jax.random.key(0)

    def call() -> None:
        jax.block_until_ready(augment_images(images, config, key))

    return call


def pillow(options: dict[str, Any], batch: int, size: int) -> Callable[[], Any]:
    """The same operations with Pillow, one picture after the other."""
    from PIL import Image, ImageEnhance

    from arp_jax.models.image_color import hue_matrix

    pictures, rng = (
        [Image.fromarray(f) for f in frames(batch, size)[:, 0]],
        np.random.default_rng(0),
    )
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

    def one(picture: Any) -> None:
        if "scale" in options:
            side = size * np.sqrt(rng.uniform(*options["scale"]))
            left, top = rng.uniform(0, size - side, 2)
            box = (left, top, left + side, top + side)
            picture = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
        if "hue" in options:
            for enhancer in enhancers:
                picture = enhancer(picture).enhance(rng.uniform(0.8, 1.2))
            turned = (
                np.asarray(picture, np.float32) @ np.asarray(hue_matrix(rng.uniform(-0.05, 0.05))).T
            )
            np.clip(turned, 0, 255).astype(np.uint8)

    def call() -> None:
        for picture in pictures:
            one(picture)

    return call


def measure(batch: int, size: int, seconds: float) -> list[Row]:
    """All cases."""
    rows = []
    for case, options in CASES.items():
        sides = [Side(build, options, batch, size) for build in (ours, pillow)]
        mine, peer = (statistics.median(times) for times in in_turn(sides, seconds))
        for side in sides:
            side.close()
        rows.append(Row(case, mine, peer, peer / mine, 1e3 * batch / mine))
        print(
            f"{case:26s} ours {mine:7.1f} ms   Pillow {peer:7.1f} ms   x{peer / mine:4.1f}   "
            f"{1e3 * batch / mine:7.0f} images/s",
            flush=True,
        )
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64, help="frames; default %(default)s")
    parser.add_argument("--size", type=int, default=224, help="pixels; default %(default)s")
    parser.add_argument("--seconds", type=float, default=6.0, help="a case; default %(default)s")
    parser.add_argument("--out", type=Path, help="also write JSON there")
    args = parser.parse_args()
    machine = hardware(("jax", "numpy", "pillow"))
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"{args.batch} frames of {args.size} x {args.size} x 3 uint8")
    rows = measure(args.batch, args.size, args.seconds)
    if args.out is not None:
        write_report(args.out, machine, rows)


if __name__ == "__main__":
    main()

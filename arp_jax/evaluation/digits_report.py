"""The report of the digits demonstration: likelihood of held-out images, looks of drawn ones.

In: the trained policy and the pack of pen episodes, divided into training and held-out. Out:
RUN/report/digits.{png, csv, json} and a table. Every number comes with its n and a 95 % interval;
the baselines are fitted on the same training images and score the same held-out ones.
"""

import csv
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from arp_jax.data.digits import CLASSES, SIZE, paint
from arp_jax.data.store import Pack
from arp_jax.evaluation.digits_baselines import (
    independent_pixels,
    nearest_distance,
    pixel_chain,
    recognised_as,
)
from arp_jax.evaluation.intervals import Interval, mean_bootstrap, paired_means, wilson
from arp_jax.normalize import Affine, normalize, unnormalize

# Drawn digits per class: enough for an interval of three points on the share that is recognised.
DRAWN = 50
# Columns of the picture: drawn, then real ones.
SHOWN = 10
_BATCH = 100


@dataclasses.dataclass(frozen=True)
class Pens:
    """Pen episodes of some images: pixels [E, N, 2] and classes int64 [E]."""

    pixels: np.ndarray
    classes: np.ndarray

    @property
    def images(self) -> np.ndarray:
        """Bool images [E, 8, 8]."""
        return paint(self.pixels)

    @classmethod
    def read(cls, pack: Pack, episodes: np.ndarray) -> "Pens":
        """The whole episodes of a pack whose episodes are equally long."""
        length = int(pack.episode_lengths[0])
        steps = np.asarray(episodes)[:, None] * length + np.arange(length)  # [E, N]
        arrays = pack.read_steps(steps, ["digit", "action"])
        return cls(arrays["action"], arrays["digit"][:, 0, 0].astype(np.int64))


def report_digits(
    out: Path,
    policy: Any,
    params: Any,
    normalizer: Mapping[str, Affine],
    pack: Pack,
    training: np.ndarray,
    held_out: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    """Scores, draws, writes and prints; returns what digits.json holds.

    Args:
        out: folder, made if absent.
        policy: a `DigitsArpPolicy`; `params` its parameters.
        normalizer: maps of "digit" and "action".
        pack: of `arp_jax.data.digits`; `training`, `held_out` are episode ids [E].
        seed: of the drawn digits.
    """
    seen, unseen = Pens.read(pack, training), Pens.read(pack, held_out)
    nats = {
        "arp": score(policy, params, normalizer, unseen),
        "pixel_chain": pixel_chain(seen.images, seen.classes, unseen.images, unseen.classes),
        "independent": independent_pixels(seen.images, seen.classes, unseen.images, unseen.classes),
    }
    drawn = draw(policy, params, normalizer, pack.episode_lengths[0], seed)
    right = recognised_as(seen.images, seen.classes, drawn.images) == drawn.classes
    right_real = recognised_as(seen.images, seen.classes, unseen.images) == unseen.classes
    found = {
        "training_images": len(training),
        "overall": _row(nats, right, right_real),
        "arp_minus_pixel_chain": paired_means(nats["pixel_chain"], nats["arp"]).to_json(),
        "arp_nats_on_training_images": mean_bootstrap(
            score(policy, params, normalizer, seen)
        ).to_json(),
        "per_class": [
            _row(
                {name: values[unseen.classes == c] for name, values in nats.items()},
                right[drawn.classes == c],
                right_real[unseen.classes == c],
            )
            for c in np.unique(unseen.classes)
        ],
        "classes": np.unique(unseen.classes).tolist(),
        "copies_of_training_images": {
            "drawn": _copies(seen, drawn),
            "held_out": _copies(seen, unseen),
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "digits.json").write_text(json.dumps(found, indent=2) + "\n")
    _write_csv(out / "digits.csv", found)
    picture(drawn, unseen).save(out / "digits.png", optimize=True)
    print_report(found)
    print(f"report: {out}", flush=True)
    return found


def score(policy: Any, params: Any, normalizer: Mapping[str, Affine], pens: Pens) -> np.ndarray:
    """Nats per image [E]: minus the log-likelihood of an image's whole pixel list."""

    @jax.jit
    def nats(batch: dict[str, Any]) -> jax.Array:
        tokens = policy.log_prob(params, batch)
        return -sum(values.sum(-1) for values in tokens.values())

    action = normalize(pens.pixels, normalizer["action"]).astype(np.float32)
    digit = _observed(pens.classes, normalizer)
    count = len(action)
    # The last batch is filled up by repeating the first images, so that one program serves all.
    order = np.resize(np.arange(count), -(-count // _BATCH) * _BATCH).reshape(-1, _BATCH)
    parts = [nats({"observation": {"digit": digit[ids]}, "action": action[ids]}) for ids in order]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])[:count]


def draw(
    policy: Any, params: Any, normalizer: Mapping[str, Affine], length: int, seed: int
) -> Pens:
    """`DRAWN` digits of every class, class by class."""
    classes = np.repeat(np.arange(CLASSES), DRAWN)
    act = jax.jit(policy.act)
    parts = []
    for number, some in enumerate(np.array_split(classes, -(-len(classes) // _BATCH))):
        rng = jax.random.fold_in(jax.random.PRNGKey(seed), number)
        parts.append(act(params, {"digit": _observed(some, normalizer)}, rng))
    pixels = unnormalize(np.concatenate(parts), normalizer["action"])
    return Pens(np.rint(pixels).reshape(-1, int(length), 2), classes)


def picture(drawn: Pens, real: Pens, scale: int = 4, gap: int = 6) -> Image.Image:
    """A row a class: `SHOWN` drawn digits, a bar, `SHOWN` real ones."""
    cell = SIZE * scale + gap
    width = 2 * SHOWN * cell + 3 * gap
    canvas = np.full((CLASSES * cell + gap, width), 255, np.uint8)
    for c in range(CLASSES):
        for side, pens in enumerate((drawn, real)):
            chosen = pens.images[pens.classes == c][:SHOWN]
            for k, image in enumerate(chosen):
                top = c * cell + gap
                left = (side * SHOWN + k) * cell + gap + 2 * side * gap
                ink = np.kron(image, np.ones((scale, scale), bool))
                canvas[top : top + ink.shape[0], left : left + ink.shape[1]] = 235 - 215 * ink
    bar = SHOWN * cell + gap
    canvas[:, bar : bar + 2] = 120
    return Image.fromarray(canvas)


def print_report(found: Mapping[str, Any], console: Console | None = None) -> None:
    """The table: a line a class and one for all."""
    table = Table(title="Held-out digits: nats per image, mean [95 %]")
    for name in ("digit", "n", "ARP", "pixel chain", "independent pixels", "drawn ones recognised"):
        table.add_column(name, justify="left" if name == "digit" else "right")
    rows = [*zip(found["classes"], found["per_class"], strict=True), ("all", found["overall"])]
    for label, row in rows:
        if label == "all":
            table.add_section()
        nats = [Interval(**row["nats_per_image"][name]).describe(digits=2) for name in _MODELS]
        share = Interval(**row["drawn_recognised"])
        table.add_row(str(label), str(row["n"]), *nats, share.describe(percent=True))
    # A log file has no width; intervals should not be broken there.
    console = console or Console(width=max(Console().width, 110))
    console.print(table)
    overall, copies = found["overall"], found["copies_of_training_images"]
    real = Interval(**overall["held_out_recognised"]).describe(percent=True)
    console.print(
        f"ARP: {overall['bits_per_pixel']:.3f} bits per pixel of the image; the classifier "
        f"recognises {real} of the real held-out images.\n"
        f"Equal to a training image: {100 * copies['drawn']['share']:.1f} % of the drawn, "
        f"{100 * copies['held_out']['share']:.1f} % of the held-out images; median distance to the "
        f"nearest {copies['drawn']['median_distance']:.0f} and "
        f"{copies['held_out']['median_distance']:.0f} pixels.",
        highlight=False,
    )


_MODELS = ("arp", "pixel_chain", "independent")


def _observed(classes: np.ndarray, normalizer: Mapping[str, Affine]) -> np.ndarray:
    """Classes [E] as the policy sees them: normalised float32 [E, 1, 1]."""
    return normalize(classes.reshape(-1, 1, 1), normalizer["digit"]).astype(np.float32)


def _row(nats: Mapping[str, np.ndarray], right: np.ndarray, right_real: np.ndarray) -> dict:
    return {
        "n": len(nats["arp"]),
        "nats_per_image": {name: mean_bootstrap(x).to_json() for name, x in nats.items()},
        "bits_per_pixel": float(nats["arp"].mean() / np.log(2) / SIZE**2),
        "drawn": len(right),
        "drawn_recognised": wilson(right).to_json(),
        "held_out_recognised": wilson(right_real).to_json(),
    }


def _copies(seen: Pens, others: Pens) -> dict[str, float]:
    distance = nearest_distance(seen.images, others.images)
    return {"share": float((distance == 0).mean()), "median_distance": float(np.median(distance))}


def _write_csv(path: Path, found: Mapping[str, Any]) -> None:
    """One line a class and one for all; intervals as _low and _high columns."""
    rows = []
    pairs = [*zip(found["classes"], found["per_class"], strict=True), ("all", found["overall"])]
    for label, row in pairs:
        line: dict[str, Any] = {"digit": label, "n": row["n"], "drawn": row["drawn"]}
        numbers = {f"nats_{name}": row["nats_per_image"][name] for name in _MODELS}
        numbers["drawn_recognised"] = row["drawn_recognised"]
        for name, interval in numbers.items():
            line |= {name: interval["value"]}
            line |= {f"{name}_{side}": interval[side] for side in ("low", "high")}
        rows.append(line)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)

"""What the digits demonstration is measured against: two simple image models and a classifier.

In: binary training images with their classes. Out: nats per image of other images under an
independent-pixel model and under a Markov chain of lit pixels, and what a support vector machine
takes drawn images for. Both models are proper distributions given the class; their one smoothing
constant is chosen by leave-one-out likelihood on the training images. Knows no policy.
"""

from collections.abc import Callable

import numpy as np
from sklearn.svm import SVC

SMOOTHING = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def independent_pixels(
    images: np.ndarray, classes: np.ndarray, others: np.ndarray, other_classes: np.ndarray
) -> np.ndarray:
    """Every pixel is lit on its own, with a probability that depends on the class.

    Args:
        images, classes: training images bool [N, h, w] and their classes int [N].
        others, other_classes: images to score, bool [M, h, w], int [M].

    Returns:
        Nats per image, float64 [M].
    """
    x, y = _flat(images), _flat(others)
    number = int(classes.max()) + 1
    lit = np.stack([x[classes == c].sum(0) for c in range(number)])  # [K, P]
    total = np.bincount(classes, minlength=number)[:, None]  # [K, 1]

    def nats(x: np.ndarray, c: np.ndarray, smoothing: float, own: int) -> np.ndarray:
        # `own` = 1 leaves the scored image out of its own counts.
        p = (lit[c] - own * x + smoothing) / (total[c] - own + 2 * smoothing)
        return -np.where(x == 1, np.log(p), np.log1p(-p)).sum(1)

    best = _best_smoothing(lambda smoothing: nats(x, classes, smoothing, own=1))
    return nats(y, other_classes, best, own=0)


def pixel_chain(
    images: np.ndarray, classes: np.ndarray, others: np.ndarray, other_classes: np.ndarray
) -> np.ndarray:
    """The next lit pixel in raster order, or the end, depends on the last one and the class.

    The class's counts are smoothed towards the counts of all classes together, and those towards
    equal shares of what can still come. Arguments and result as `independent_pixels`.
    """
    number, size = int(classes.max()) + 1, images[0].size
    steps = [_steps(image) for image in images]
    counts = np.zeros((number, size + 1, size + 1))  # [class, from, to]
    for c, (before, after) in zip(classes, steps, strict=True):
        np.add.at(counts[c], (before, after), 1)
    possible = np.triu(np.ones((size + 1, size + 1)), k=0)  # from f (0 = start) to pixel >= f
    possible[0, -1] = 0  # an empty image cannot be listed
    together = counts.sum(0) + possible

    def nats(step: tuple[np.ndarray, np.ndarray], c: int, smoothing: float, own: int) -> float:
        f, t = step
        prior = (together[f, t] - own) / (together[f].sum(-1) - own)
        p = counts[c, f, t] - own + smoothing * prior
        return -float(np.log(p / (counts[c, f].sum(-1) - own + smoothing)).sum())

    best = _best_smoothing(
        lambda smoothing: np.array(
            [nats(step, c, smoothing, own=1) for c, step in zip(classes, steps, strict=True)]
        )
    )
    pairs = zip(other_classes, others, strict=True)
    return np.array([nats(_steps(image), c, best, own=0) for c, image in pairs])


def recognised_as(images: np.ndarray, classes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Class of each of `others` by a support vector machine fitted on `images`: int [M]."""
    machine = SVC().fit(_flat(images), classes)
    return machine.predict(_flat(others))


def nearest_distance(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels in which each of `others` differs from the most similar of `images`: int [M]."""
    x, y = _flat(images), _flat(others)
    differing = x.sum(1)[None] + y.sum(1)[:, None] - 2 * (y @ x.T)  # [M, N]
    return differing.min(axis=1).astype(np.int64)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float64)


def _steps(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(from, to) of the chain: from 0 is the start and p + 1 pixel p; to P is the end."""
    lit = np.flatnonzero(image)
    return np.r_[0, lit + 1], np.r_[lit, image.size]


def _best_smoothing(nats: Callable[[float], np.ndarray]) -> float:
    return min(SMOOTHING, key=lambda smoothing: nats(smoothing).mean())

"""The RLDS form of an episode, for any observation and action spec.

In: specs, and the arrays of one episode. Out: the TFDS features and the example that a TFDS builder
yields. Steps have observation, action, reward, discount, is_first, is_last, is_terminal and, where
a task is told in words, language_instruction. Images are stored encoded, so that TFDS writes them
without TensorFlow. Building the folder is `rlds_build.py`'s business, reading it `rlds.py`'s.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.images import check_format, encode_image
from arp_jax.specs import ActionSpec, ObservationSpec


def episode_features(
    observation: ObservationSpec,
    action: ActionSpec,
    *,
    metadata: Mapping[str, Any],
    reward: str | None,
    recorded: Mapping[str, tuple[int, ...]] | None = None,
    extra: Mapping[str, Any] | None = None,
    language: bool = False,
    image_format: str = "png",
) -> tfds.features.FeaturesDict:
    """TFDS features of episodes that follow the specs.

    Args:
        observation: vector features (float32) and cameras (uint8 images) of a step.
        action: the action (float32).
        metadata: TFDS features of the whole episode.
        reward: what the reward means, for the dataset's documentation; None: steps have none.
        recorded: float32 observations that are in no spec, name -> shape.
        extra: further TFDS features of a step, e.g. who chose the action.
        language: whether steps have the text `language_instruction`.
        image_format: "png" (exact) or "jpeg" (small).

    Raises:
        ValueError: unknown image format.
    """
    check_format(image_format)
    tensor = tfds.features.Tensor
    observations: dict[str, Any] = {
        f.name: tensor(shape=(f.size,), dtype=np.float32, doc=f"{', '.join(f.dims)} ({f.unit})")
        for f in observation.features
    }
    for camera in observation.cameras:
        observations[camera.name] = tfds.features.Image(
            shape=(camera.height, camera.width, 3), encoding_format=image_format
        )
    for name, shape in (recorded or {}).items():
        observations[name] = tensor(shape=shape, dtype=np.float32)
    step = {
        "observation": observations,
        "action": tensor(
            shape=(action.size,), dtype=np.float32, doc=f"{', '.join(action.dims)} ({action.unit})"
        ),
        **(extra or {}),
        "discount": tfds.features.Scalar(np.float32, doc="0 on a terminal step, else 1"),
        "is_first": np.bool_,
        "is_last": np.bool_,
        "is_terminal": np.bool_,
    }
    if reward is not None:
        step["reward"] = tfds.features.Scalar(np.float32, doc=reward)
    if language:
        step["language_instruction"] = tfds.features.Text(doc="what to do, the same at each step")
    return tfds.features.FeaturesDict(
        {"steps": tfds.features.Dataset(step), "episode_metadata": dict(metadata)}
    )


def episode_example(
    observation: Mapping[str, np.ndarray | Sequence[bytes]],
    action: np.ndarray,
    reward: np.ndarray | None,
    success: bool,
    metadata: Mapping[str, Any],
    instruction: str | None = None,
    image_format: str = "png",
    extra: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """One episode as a TFDS builder yields it.

    Args:
        observation: name -> [T, ...]; uint8 [T, H, W, 3] are images and become encoded, T encoded
            images (bytes) are stored as they are.
        action: float32 [T, A].
        reward: float32 [T], or None for features without it.
        success: whether the last step is terminal (the goal was reached, not just the time up).
        metadata: of the episode.
        instruction: the sentence, for features made with `language`.
        image_format: as in `episode_features`.
        extra: as in `episode_features`, name -> T values.
    """
    values: dict[str, Any] = dict(extra or {})
    if reward is not None:
        values["reward"] = np.asarray(reward, np.float32)
    if instruction is not None:
        values["language_instruction"] = [instruction] * len(action)
    steps = _steps(observation, action, success, image_format)
    named = ({name: column[t] for name, column in values.items()} for t in range(len(action)))
    return {
        "steps": [step | own for step, own in zip(steps, named, strict=True)],
        "episode_metadata": dict(metadata),
    }


def _steps(
    observation: Mapping[str, np.ndarray | Sequence[bytes]],
    action: np.ndarray,
    success: bool,
    image_format: str,
) -> Iterator[dict[str, Any]]:
    for t in range(len(action)):
        is_last = t == len(action) - 1
        terminal = is_last and success
        yield {
            "observation": {n: _value(v[t], image_format) for n, v in observation.items()},
            "action": action[t],
            "discount": np.float32(0.0 if terminal else 1.0),
            "is_first": t == 0,
            "is_last": is_last,
            "is_terminal": terminal,
        }


def _value(value: Any, image_format: str) -> Any:
    """One observation of one step; TFDS takes encoded images as open files."""
    if np.ndim(value) == 3:
        value = encode_image(value, image_format)
    return io.BytesIO(value) if isinstance(value, bytes) else value

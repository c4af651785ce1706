"""A policy together with what happens to its cameras' frames before its network sees them.

In: the `images` section of a config, a policy. Out: `PreprocessedPolicy`, itself a `Policy`, on the
cameras' raw frames. Training, validation, evaluation, likelihood and export call init, loss and act
and thereby preprocess alike; none of them can do it otherwise or forget it
(docs/decisions/0007-preprocessing-is-part-of-the-policy.md). What can be done to a frame is
`models/image_augment.py`.
"""

import dataclasses
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import jax
from jax import Array

from arp_jax.models.image_augment import ImageAugment, augment_images
from arp_jax.policies.base import Batch, Metrics, Params, Policy
from arp_jax.policies.section import from_section
from arp_jax.specs import ObservationSpec, PolicySpec

Images = Mapping[str, ImageAugment]
_WHERE = "config.images"


@dataclasses.dataclass(frozen=True)
class ImagesConfig:
    """The `images` section.

    Attributes:
        default: what is done to the frames of every camera.
        cameras: camera -> what is done to its frames instead.
    """

    default: ImageAugment
    cameras: Images

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """Reads plain values: the keys of `ImageAugment`, and `cameras` with the keys that differ.

        Raises:
            ValueError: an unknown key or a value that makes no sense; named.
        """
        common = {key: value for key, value in section.items() if key != "cameras"}
        cameras = {
            name: _read({**common, **options}, f"{_WHERE}.cameras.{name}")
            for name, options in section.get("cameras", {}).items()
        }
        return cls(_read(common, _WHERE), cameras)

    def of(self, observation: ObservationSpec) -> dict[str, ImageAugment]:
        """Camera -> what is done to its frames, for the cameras that are not left as they are.

        Raises:
            ValueError: the section names a camera that is not observed, or changes images where
                there are none.
        """
        known = [camera.name for camera in observation.cameras]
        for name in self.cameras:
            if name not in known:
                raise ValueError(f"{_WHERE}.cameras.{name} is not observed; cameras are {known}")
        nothing = ImageAugment()
        if self.default != nothing and not known:
            raise ValueError(f"{_WHERE} changes images, but config.observations holds no camera")
        found = {name: self.cameras.get(name, self.default) for name in known}
        return {name: options for name, options in found.items() if options != nothing}


def _read(section: Mapping[str, Any], where: str) -> ImageAugment:
    try:
        return from_section(ImageAugment, section, "an image", where)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(where) else f"{where}: {message}") from error


def seen_spec(spec: PolicySpec, images: Images) -> PolicySpec:
    """What the network sees of `spec`: the cameras in their size after preprocessing.

    Raises:
        ValueError: a region that does not lie within a camera's frames; camera and region named.
    """
    cameras = []
    for camera in spec.observation.cameras:
        if camera.name in images:
            try:
                height, width = images[camera.name].output_size(camera.height, camera.width)
            except ValueError as error:
                raise ValueError(f"{_WHERE}, camera {camera.name!r}: {error}") from error
            camera = dataclasses.replace(camera, height=height, width=width)
        cameras.append(camera)
    observation = dataclasses.replace(spec.observation, cameras=tuple(cameras))
    return dataclasses.replace(spec, observation=observation)


class PreprocessedPolicy:
    """The `Policy` on raw frames whose network is another policy (see `policies.base.Policy`).

    Attributes:
        inner: the network's policy; its spec has the cameras' sizes after preprocessing. The
            parameters are its own.
        images: camera -> what is done to its frames.
        spec: what is observed and commanded, cameras as they are.
    """

    def __init__(self, inner: Policy, images: Images, spec: PolicySpec) -> None:
        """Raises ValueError when the policy is taught by places in a picture that would move."""
        moved = [name for name, options in images.items() if options.moves_pixels]
        if moved and getattr(inner, "labels_are_pixels", False):
            raise ValueError(
                f"{_WHERE} moves the pixels of camera {moved[0]!r}, by whose places this policy is "
                "taught; leave out crops and sizes, or set policy.guide_points to 0"
            )
        self.inner, self.images, self.spec = inner, dict(images), spec

    def init(self, rng: Array, batch: Batch) -> Params:
        """Fresh parameters of the network."""
        return self.inner.init(rng, self._seen(batch))

    def loss(
        self, params: Params, batch: Batch, rng: Array, *, train: bool, **options: Any
    ) -> tuple[Array, Metrics]:
        """The network's loss on changed frames: at random with `train`, otherwise as in `act`."""
        images_rng, loss_rng = jax.random.split(rng)
        seen = self._seen(batch, images_rng if train else None)
        return self.inner.loss(params, seen, loss_rng, train=train, **options)

    def act(self, params: Params, observation: Mapping[str, Array], rng: Array) -> Array:
        """The network's chunk [B, H, A] for raw frames."""
        return self.inner.act(params, self.preprocess(observation, None), rng)

    @property
    def log_prob(self) -> Callable[[Params, Batch], dict[str, Array]]:
        """The network's `log_prob`; AttributeError where it has none."""
        log_prob = self.inner.log_prob  # type: ignore[attr-defined]
        return lambda params, batch: log_prob(params, self._seen(batch))

    @property
    def scored_tokens(self) -> Callable[[Batch], dict[str, Array]]:
        """The network's `scored_tokens`; AttributeError where it has none."""
        scored_tokens = self.inner.scored_tokens  # type: ignore[attr-defined]
        return lambda batch: scored_tokens(self._seen(batch))

    @property
    def learns_from_average(self) -> bool:
        """See `policies.base.Policy`."""
        return getattr(self.inner, "learns_from_average", False)

    @property
    def finish(self) -> Callable[..., tuple[Params, dict[str, Any]]]:
        """The network's `finish`; AttributeError where it has none."""
        finish = self.inner.finish  # type: ignore[attr-defined]
        preprocess = jax.jit(self._seen)

        def finish_seen(
            params: Params, training: Iterable[Batch], held_out: Iterable[Batch]
        ) -> tuple[Params, dict[str, Any]]:
            return finish(params, map(preprocess, training), map(preprocess, held_out))

        return finish_seen

    def preprocess(self, observation: Mapping[str, Array], rng: Array | None) -> dict[str, Array]:
        """The observation with changed frames: at random with a key, fixed without."""
        seen = dict(observation)
        for name, options in self.images.items():
            # By name, so that another camera more does not change what this one draws.
            key = None if rng is None else jax.random.fold_in(rng, zlib.crc32(name.encode()))
            seen[name] = augment_images(observation[name], options, key)
        return seen

    def _seen(self, batch: Batch, rng: Array | None = None) -> Batch:
        return {**batch, "observation": self.preprocess(batch["observation"], rng)}


def preprocessed(
    build: Callable[[PolicySpec], Policy], spec: PolicySpec, images: Mapping[str, Any]
) -> Policy:
    """Joins policy and preprocessing; with nothing to do to images, the policy as it is.

    Args:
        build: makes the policy for what it sees.
        spec: what is observed and commanded, cameras as they are.
        images: plain values of the config's `images` section.

    Raises:
        ValueError: the section does not make sense or does not fit the spec; named.
    """
    changed = ImagesConfig.from_section(images).of(spec.observation)
    if not changed:
        return build(spec)
    return PreprocessedPolicy(build(seen_spec(spec, changed)), changed, spec)


def network_of(policy: Policy) -> Policy:
    """The policy without preprocessing around it: for whoever asks about modules and weights."""
    return policy.inner if isinstance(policy, PreprocessedPolicy) else policy


def describe_images(policy: Policy) -> dict[str, Any]:
    """What a policy does to raw frames, as JSON values: {camera: {option: value}}.

    Options that do nothing are left out, cameras without any too.
    """
    images = policy.images if isinstance(policy, PreprocessedPolicy) else {}
    nothing = dataclasses.asdict(ImageAugment())
    plain = {
        name: {k: v for k, v in dataclasses.asdict(options).items() if v != nothing[k]}
        for name, options in images.items()
    }
    return json.loads(json.dumps(plain))  # tuples become lists

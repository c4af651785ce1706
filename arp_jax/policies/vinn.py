"""VINN: actions are those of the demonstrations that look most like what is seen now.

Nothing is learned about actions. A library holds the features of every demonstrated moment and the
chunk of actions that followed it; acting averages the chunks of the nearest k. Features are those
of a ResNet a camera, trained without labels (BYOL: `models/byol.py`), beside the robot's state; or,
without cameras, the vectors as they are. `loss` trains the ResNets, `finish` fills the library and
chooses k. How far a chunk is followed is `control/execution.py`'s business.

Pari et al. 2021, "The Surprising Effectiveness of Representation Learning for Visual Imitation".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from arp_jax.models.byol import ByolNet, byol_loss
from arp_jax.models.nearest_neighbors import distances_to, nearest, row_mesh, spread_rows
from arp_jax.models.neighbor_average import averages_by_count, weighted_average
from arp_jax.models.random_views import ViewOptions, random_views
from arp_jax.models.resnet import NORMS, STAGE_BLOCKS
from arp_jax.models.trunks import IMAGENET_MEAN, IMAGENET_STD
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.policies.section import check_at_least_one, check_choices, from_section
from arp_jax.specs import PolicySpec

Observation = Mapping[str, Array]

# Elements of a library from which `finish` lets all local devices search it: 256 MB of features.
SHARED_ELEMENTS = 2**26

_CHOICES: dict[str, tuple[Any, ...]] = {
    "weighting": ("repaired", "published"),
    "depth": tuple(STAGE_BLOCKS),
    "trunk_norm": tuple(NORMS),
    "compute_dtype": ("float32", "bfloat16"),
}


@dataclasses.dataclass(frozen=True)
class VinnConfig:
    """Static options of `VinnPolicy`.

    Attributes:
        cameras: images that are compared by their features; () compares vectors only.
        state_features: vectors that are compared; () is every vector feature.
        state_weight: of the distance between vectors beside that between images; 0 leaves the
            vectors out. Without cameras it changes no neighbour, but how fast their influence falls
            with distance: normalised vectors are so close to each other that 1 is nearly a plain
            mean.
        state_scale: factor of each dimension of the vectors of one step before they are compared;
            () is 1. Batches hold normalised vectors: the published distance, of joint angles as
            they are, takes their standard deviations here.
        neighbors: k; 0 chooses it by the error on held-out episodes (1 where none are held out).
        most_neighbors: largest k that is tried.
        weighting: "repaired" weighs by the neighbours' distances; "published" by those of the first
            k moments of the library, whatever their distance.
        depth, trunk_norm, trunk_width: of the ResNets.
        projection, projection_hidden: sizes of the networks behind them while they are trained.
        views: how the two views of a frame differ.
        compute_dtype: of the ResNets; parameters, losses and distances stay float32.
    """

    cameras: tuple[str, ...] = ()
    state_features: tuple[str, ...] = ()
    state_weight: float = 1.0
    state_scale: tuple[float, ...] = ()
    neighbors: int = 0
    most_neighbors: int = 64
    weighting: str = "repaired"
    depth: int = 18
    trunk_norm: str = "group"
    trunk_width: int = 64
    projection: int = 256
    projection_hidden: int = 4096
    views: ViewOptions = dataclasses.field(default_factory=ViewOptions)
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        sizes = ("most_neighbors", "trunk_width", "projection", "projection_hidden")
        check_at_least_one(self, sizes)
        if self.state_weight < 0 or self.neighbors < 0:
            raise ValueError("policy.state_weight and policy.neighbors must not be negative")

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """See `section.from_section`; `views` is a section of its own."""
        views = from_section(ViewOptions, section.get("views", {}), "vinn", "policy.views")
        return from_section(cls, {**section, "views": views}, "vinn")


class VinnPolicy:
    """VINN; see the module. Observations are of W time steps, [B, W, ...].

    Attributes:
        spec: what is observed and commanded.
        learns_from_average: whether `loss` asks for the moving average of the parameters.
        mesh: devices that share the library in `act` (see `nearest_neighbors.nearest`), or None.
    """

    def __init__(self, config: VinnConfig, spec: PolicySpec, mesh: Mesh | None = None) -> None:
        """Checks the options against the spec; raises ValueError naming what does not fit."""
        self.config, self.spec, self.mesh = config, spec, mesh
        self.learns_from_average = bool(config.cameras)
        spec.observation.select(config.cameras)
        features = config.state_features or tuple(f.name for f in spec.observation.features)
        seen = spec.observation.select(features)
        self._features = features if config.state_weight else ()
        if not self._features and not config.cameras:
            raise ValueError("policy vinn: no cameras and no vector features: nothing to compare")
        size = sum(feature.size for feature in seen.features)
        if config.state_scale and len(config.state_scale) != size:
            raise ValueError(
                f"policy.state_scale has {len(config.state_scale)} values for {size} dimensions of "
                f"{', '.join(features)}"
            )
        if config.cameras and config.trunk_norm == "group" and config.trunk_width < 16:
            raise ValueError("policy.trunk_width must be at least 16 with group norm")
        self.net = ByolNet(
            depth=config.depth,
            norm=config.trunk_norm,
            width=config.trunk_width,
            size=config.projection,
            hidden=config.projection_hidden,
            dtype=jnp.dtype(config.compute_dtype),
        )

    def init(self, rng: Array, batch: Batch) -> Params:
        """Fresh networks {"encoders": {camera}} and k, "neighbors" float32 [1]; no library yet."""
        encoders = {}
        for index, camera in enumerate(self.config.cameras):
            frames = _normalized(batch["observation"][camera][:, -1])
            key = jax.random.fold_in(rng, index)
            encoders[camera] = self.net.init(key, frames)["params"]
        return {
            "encoders": encoders,
            "neighbors": jnp.full((1,), max(self.config.neighbors, 1), jnp.float32),
        }

    def loss(
        self,
        params: Params,
        batch: Batch,
        rng: Array,
        *,
        train: bool,
        average: Params | None = None,
    ) -> tuple[Array, Metrics]:
        """BYOL's loss of the newest frames, the mean over cameras; 0 where there are none.

        Args:
            params, batch, rng, train: see `policies.base.Policy`.
            average: parameters of the target network; None takes `params` (as in validation).
        """
        total = jnp.zeros(())
        for index, camera in enumerate(self.config.cameras):
            online = params["encoders"][camera]
            target = (params if average is None else average)["encoders"][camera]
            frames = batch["observation"][camera][:, -1]
            key = jax.random.fold_in(rng, index)
            total = total + self._pair_loss(online, target, frames, key) / len(self.config.cameras)
        return total, {"loss": total}

    def act(self, params: Params, observation: Observation, rng: Array) -> Array:
        """The neighbours' weighted chunk [B, H, A] for observations [B, W, ...].

        Raises:
            ValueError: the parameters hold no library: `finish` was not called.
        """
        distances, chunks = self._neighbors(params, observation)
        return weighted_average(distances, chunks, params["neighbors"][0])

    def embed(self, params: Params, observation: Observation) -> tuple[Array, ...]:
        """What is compared: features of all frames [B, F], then vectors [B, S]; one may lack."""
        parts = []
        if self.config.cameras:
            frames = [self._describe(params, observation, name) for name in self.config.cameras]
            parts.append(jnp.concatenate(frames, axis=-1))
        if self._features:
            vectors = jnp.concatenate([observation[name] for name in self._features], axis=-1)
            if self.config.state_scale:
                vectors = vectors * jnp.asarray(self.config.state_scale, vectors.dtype)
            parts.append(vectors.reshape(len(vectors), -1))  # [B, W * S]
        return tuple(parts)

    def finish(
        self, params: Params, training: Iterable[Batch], held_out: Iterable[Batch]
    ) -> tuple[Params, dict[str, Any]]:
        """Fills the library and chooses k (see `policies.base.Policy`).

        Args:
            params: trained parameters.
            training: batches of every training window, once: the library.
            held_out: batches of held-out windows, by whose error k is chosen.

        Returns:
            The parameters that act, {"encoders", "neighbors", "library"}, and a report: "summary",
            "rows", "neighbors", and where windows are held out "held_out" (their number) and
            "errors" (mean squared error of the normalised chunk for k = 1 .. K).
        """
        trunks = {name: {"trunk": net["trunk"]} for name, net in params["encoders"].items()}
        acting: Params = {"encoders": trunks, "neighbors": params["neighbors"]}
        embed = jax.jit(self.embed)
        rows = [
            (*jax.device_get(embed(acting, batch["observation"])), np.asarray(batch["action"]))
            for batch in training
        ]
        *parts, chunks = (np.concatenate(column) for column in zip(*rows, strict=True))
        names = [str(index) for index in range(len(parts))]
        library: Params = {"parts": dict(zip(names, parts, strict=True)), "chunks": chunks}
        acting["library"] = library
        count, report = self._choose(acting, held_out)
        acting["neighbors"] = np.full((1,), count, np.float32)
        widths = " + ".join(str(part.shape[1]) for part in parts)
        size = f"library of {len(chunks):,} moments x {widths} features"
        return acting, {
            **report,
            "summary": f"{size}; {report['summary']}",
            "rows": len(chunks),
            "neighbors": count,
        }

    def _choose(self, acting: Params, held_out: Iterable[Batch]) -> tuple[int, dict[str, Any]]:
        """k, and what to report about the choice."""
        chunks = acting["library"]["chunks"]
        fixed = min(self.config.neighbors, len(chunks))
        placed, searcher = self._shared(acting)
        errors, windows = np.zeros(()), 0
        count = np.zeros(())
        squares = jax.jit(searcher.squared_errors)
        for batch in held_out:
            found = jax.device_get(squares(placed, batch))
            errors, count = errors + found[0], count + found[1]
            windows += len(batch["action"])
        if not windows:
            chosen = fixed or 1
            return chosen, {"summary": f"k = {chosen} (no held-out episodes to choose by)"}
        means = errors / count  # [K]
        best = int(np.argmin(means)) + 1
        chosen = fixed or best
        summary = f"k = {chosen}; mean squared error on {windows:,} held-out moments: " + ", ".join(
            f"k = {k}: {means[k - 1]:.5f}" for k in sorted({1, best, len(means)})
        )
        report = {"summary": summary, "held_out": windows, "errors": means.tolist()}
        return chosen, report

    def squared_errors(self, params: Params, batch: Batch) -> tuple[Array, Array]:
        """Sum of squared errors for k = 1 .. K [K], and the number of actions' entries in it."""
        distances, chunks = self._neighbors(params, batch["observation"], all_counts=True)
        predicted = averages_by_count(distances, chunks)  # [B, K, H, A]
        real = ~batch["action_is_pad"][:, None, :, None]  # [B, 1, H, 1]
        error = jnp.where(real, jnp.square(predicted - batch["action"][:, None]), 0.0)
        return error.sum((0, 2, 3)), real.sum() * self.spec.action.size

    def _neighbors(
        self, params: Params, observation: Observation, all_counts: bool = False
    ) -> tuple[Array, Array]:
        """Distances [B, K] that weigh, and chunks [B, K, H, A], nearest first."""
        if "library" not in params:
            raise ValueError(
                "policy vinn has no library of demonstrations yet: it is filled when training is "
                "done (arp_jax.train to config.train.steps)"
            )
        parts = tuple(params["library"]["parts"][key] for key in sorted(params["library"]["parts"]))
        chunks = params["library"]["chunks"]
        # A fixed k needs no more neighbours; a chosen one is known only as a number in `params`.
        most = self.config.most_neighbors
        most = most if all_counts or not self.config.neighbors else self.config.neighbors
        most = min(most, len(chunks))
        queries = self.embed(params, observation)
        weights = (1.0,) * bool(self.config.cameras) + (self.config.state_weight,)
        weights = weights[: len(parts)]
        found = nearest(queries, parts, weights, most, self.mesh)
        distances = found.distances
        if self.config.weighting == "published":
            distances = distances_to(queries, [part[:most] for part in parts], weights)
        return distances, chunks[found.rows]

    def _shared(self, params: Params) -> tuple[Params, VinnPolicy]:
        """Parameters whose library, if it is large, all local devices share, and who searches."""
        parts, devices = params["library"]["parts"], jax.local_devices()
        if len(devices) == 1 or sum(part.size for part in parts.values()) < SHARED_ELEMENTS:
            return params, self
        mesh = row_mesh(devices)
        spread = {name: spread_rows(part, mesh) for name, part in parts.items()}
        library = {**params["library"], "parts": spread}
        return {**params, "library": library}, VinnPolicy(self.config, self.spec, mesh)

    def _describe(self, params: Params, observation: Observation, camera: str) -> Array:
        """Features [B, W * C] of a camera's frames."""
        frames = observation[camera]  # [B, W, h, w, 3]
        flat = _normalized(frames.reshape(-1, *frames.shape[2:]))
        found: Any = self.net.apply(
            {"params": params["encoders"][camera]}, flat, method=ByolNet.features
        )
        return found.reshape(len(frames), -1)

    def _pair_loss(self, online: Params, target: Params, frames: Array, rng: Array) -> Array:
        """Each of two views predicts the other; their losses are added."""
        first, second = (
            _normalized(random_views(frames, self.config.views, key))
            for key in jax.random.split(rng)
        )
        views = jnp.concatenate([first, second])  # [2 B, h, w, 3]
        predicted: Any = self.net.apply({"params": online}, views)
        projected: Any = self.net.apply({"params": target}, views, method=ByolNet.project)
        other = jnp.roll(jax.lax.stop_gradient(projected), len(frames), axis=0)
        return 2 * byol_loss(predicted, other)


def _normalized(frames: Array) -> Array:
    """Frames in [0, 255] to float32, normalised as ImageNet is."""
    return (frames.astype(jnp.float32) / 255.0 - IMAGENET_MEAN) / IMAGENET_STD

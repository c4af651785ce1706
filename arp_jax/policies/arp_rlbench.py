"""ARP on RLBench (Zhang et al. 2024): a coloured point cloud and a sentence in, the next goal out.

Two looks at the scene: views of all of it say roughly where the gripper should go, views of the
surroundings of that point, magnified, say exactly where, how it is turned and whether it closes.
Options and sequence layouts are in `rlbench_config.py`, geometry in `rlbench_scene.py`,
`rotation_codes.py` and `models.orthographic_views`. Reading recordings and planning motions are
not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.generate import generate
from arp_jax.models.multi_view_transformer import MultiViewTransformer
from arp_jax.models.orthographic_views import VIEWS, most_likely_point, project, render_views
from arp_jax.models.token_embeddings import sample_feature_grid
from arp_jax.policies import rlbench_config, rlbench_scene
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.policies.plan_labels import gaussian_heatmaps
from arp_jax.policies.rlbench_config import (
    ACTION_DIMS,
    CELLS,
    GRIPPER,
    LABEL_MAP,
    MAP,
    POINTS,
    PROMPT,
    PROMPTS,
    PROPRIO,
    ROTATIONS,
    RlbenchArpConfig,
    published_rlbench,
    rlbench_spec,
)
from arp_jax.policies.rotation_codes import (
    codes_to_quaternion,
    quaternion_to_matrix,
    rotation_to_codes,
    snap_pitch,
)
from arp_jax.specs import PolicySpec

__all__ = [
    "Decision",
    "RlbenchArpConfig",
    "RlbenchArpPolicy",
    "Targets",
    "published_rlbench",
    "rlbench_spec",
]

Observation = Mapping[str, Array]

STAGES = tuple(POINTS)  # coarse, fine


class Targets(NamedTuple):
    """What a decision should have been.

    Attributes:
        points: per stage, the goal in that stage's cube, [B, 3].
        codes: classes of rot-x, rot-y, rot-z, grip, collision, int32 [B, 5].
        fed: the same as the token transformer reads them (rotations may be jittered).
    """

    points: dict[str, Array]
    codes: Array
    fed: Array


class Decision(NamedTuple):
    """What was predicted: the point of either stage in its cube [B, 3], and codes [B, 5]."""

    points: dict[str, Array]
    codes: Array


class _Cloud(NamedTuple):
    """A cloud in the cube: points [B, P, 3], colours [B, P, 3], valid [B, P]."""

    points: Array
    colours: Array
    valid: Array


class RlbenchArpPolicy:
    """The `Policy` of ARP for keyframe manipulation (see `policies.base.Policy`).

    An observation is {"point_cloud": float32 [B, P, 3] metres in the world's frame (NaN or outside
    the scene: not seen), "colours": float32 [B, P, 3] in [0, 1], "proprio": float32 [B, 3],
    "language": float32 [B, 77, 512]}. A batch adds "action" [B, 1, 9]: position (m), quaternion
    (x, y, z, w), gripper open (0 or 1), ignore collisions (0 or 1); nothing is normalised.

    Attributes:
        config: options. spec: `rlbench_spec()`, or one of the same action dims.
        views: the transformer over views; two sets of its parameters are `params["coarse"]` and
            `params["fine"]`.
        transformer: the token transformer, `params["transformer"]`.
    """

    def __init__(self, config: RlbenchArpConfig, spec: PolicySpec) -> None:
        """Raises ValueError when the spec is not one of keyframe goals."""
        if spec.action.dims != ACTION_DIMS or (spec.window, spec.horizon) != (1, 1):
            raise ValueError(
                f"arp_rlbench needs action dims {ACTION_DIMS}, window 1 and horizon 1; found "
                f"{spec.action.dims}, {spec.window} and {spec.horizon}"
            )
        self.config = config
        self.spec = spec
        dtype = jnp.dtype(config.compute_dtype)
        self.views = MultiViewTransformer(rlbench_config.views_config(config, spec), dtype)
        sizes = rlbench_config.transformer_config(config)
        self.transformer = ChunkTransformer(sizes, dtype=dtype)
        self.point_schedules = {s: rlbench_config.point_schedule(sizes, s) for s in STAGES}
        self.gripper_schedule = rlbench_config.gripper_schedule(sizes)

    # -- the policy's interface -----------------------------------------------------------------

    def init(self, rng: Array, batch: Batch | None = None) -> Params:
        """Fresh parameters; their shapes do not depend on `batch`."""
        keys = jax.random.split(rng, 3)
        size = self.views.config
        views = jnp.zeros((1, size.views, size.image_size, size.image_size, size.channels))
        proprio = jnp.zeros((1, size.proprio_dim))
        language = jnp.zeros((1, size.language_tokens, size.language_dim))
        params: Params = {
            stage: self.views.init(key, views, proprio, language)["params"]
            for stage, key in zip(STAGES, keys[:2], strict=True)
        }
        return params | {"transformer": self.transformer.init_params(keys[2])}

    def loss(
        self, params: Params, batch: Batch, rng: Array, *, train: bool
    ) -> tuple[Array, Metrics]:
        """Sum of the heads' losses; the metrics hold each of them and the total.

        With `train` the scene is augmented, the zoom is noisy, rotation tokens are jittered and
        dropout is on; otherwise `rng` is unused.
        """
        scene_rng, dropout_rng = jax.random.split(rng)
        views, targets = self.views_and_targets(batch, scene_rng if train else None)
        entries = self.losses_of_views(
            params, views, batch["observation"], targets, dropout_rng if train else None
        )
        total = jnp.sum(jnp.stack(list(entries.values())))
        return total, {"loss": total, **entries}

    def act(self, params: Params, observation: Observation, rng: Array) -> Array:
        """The next goal [B, 1, 9]: every token's most likely value, so `rng` is unused."""
        decision = self.decide(params, observation)
        config = self.config
        point = rlbench_scene.zoom_out(
            decision.points["fine"], decision.points["coarse"], config.zoom
        )
        position = rlbench_scene.from_cube(point, config.scene_bounds)
        turns = len(ROTATIONS)
        quaternion = codes_to_quaternion(decision.codes[:, :turns], config.rotation_classes)
        rest = decision.codes[:, turns:].astype(jnp.float32)
        return jnp.concatenate([position, quaternion, rest], axis=-1)[:, None]

    def log_prob(self, params: Params, batch: Batch) -> dict[str, Array]:
        """Log-likelihood of the recorded goal per token type, [B, views] for points, else [B, 1].

        Points are judged by their label maps: the sum over pixels of label times log-probability.
        """
        views, targets = self.views_and_targets(batch, None)
        found: dict[str, Array] = {}
        for stage in STAGES:
            maps = self.feature_maps(params, stage, views[stage], batch["observation"])
            each = self._apply(params, "log_prob", *self._point_inputs(stage, maps, targets))
            found[POINTS[stage]] = each.reshape(-1, len(VIEWS))
        each = self._apply(params, "log_prob", *self._gripper_inputs(maps, targets))
        for i, name in enumerate(GRIPPER):
            found[name] = each[:, PROMPTS + i, None]
        return found

    # -- from scenes to views -------------------------------------------------------------------

    def views_and_targets(
        self, batch: Batch, rng: Array | None
    ) -> tuple[dict[str, Array], Targets]:
        """Views of either stage [B, V, S, S, 10] and what to predict; an rng augments both."""
        config = self.config
        keys = [None] * 4 if rng is None else list(jax.random.split(rng, 4))
        action = batch["action"][:, 0]  # [B, 9]
        points, colours = (batch["observation"][name] for name in ("point_cloud", "colours"))
        position, rotation = action[:, :3], quaternion_to_matrix(action[:, 3:7])
        if config.augment and keys[0] is not None and keys[1] is not None:
            points, position, rotation = rlbench_scene.turn_and_shift(
                keys[0],
                points,
                position,
                snap_pitch(rotation),
                config.scene_bounds,
                config.shift_fraction,
                config.turn_degrees,
            )
            colours = rlbench_scene.noisy_colours(keys[1], colours, config.colour_noise)
        cloud = self._cloud(points, colours)
        goal = rlbench_scene.to_cube(position, config.scene_bounds)
        centre = goal
        if keys[2] is not None:
            noise = jax.random.uniform(keys[2], goal.shape, minval=-1.0)
            centre = goal + config.zoom_noise * noise
        views = {"coarse": self._render(cloud), "fine": self._render(self._zoomed(cloud, centre))}
        fine_goal = rlbench_scene.zoom_in(goal, centre, config.zoom)
        turns = rotation_to_codes(rotation, config.rotation_classes)
        rest = jnp.round(action[:, 7:]).astype(jnp.int32)
        fed = turns
        if keys[3] is not None and config.rotation_jitter != "none":
            fed = rlbench_scene.jitter_codes(
                keys[3], turns, config.rotation_classes, config.rotation_jitter
            )
        codes, fed = (jnp.concatenate([part, rest], axis=1) for part in (turns, fed))
        return views, Targets({"coarse": goal, "fine": fine_goal}, codes, fed)

    def _cloud(self, points: Array, colours: Array) -> _Cloud:
        bounds = self.config.scene_bounds
        valid = rlbench_scene.in_bounds(points, bounds)
        return _Cloud(rlbench_scene.to_cube(points, bounds), colours, valid)

    def _zoomed(self, cloud: _Cloud, centre: Array) -> _Cloud:
        points = rlbench_scene.zoom_in(cloud.points, centre, self.config.zoom)
        return cloud._replace(points=points)

    def _render(self, cloud: _Cloud) -> Array:
        """[B, V, S, S, 10]"""

        def render(one: _Cloud) -> Array:
            return render_views(one.points, one.colours, one.valid, self.config.image_size)

        return jax.vmap(render)(cloud)

    # -- from views to predictions --------------------------------------------------------------

    def feature_maps(
        self,
        params: Params,
        stage: str,
        views: Array,
        observation: Observation,
        dropout_rng: Array | None = None,
    ) -> Array:
        """Maps [B, V, g, g, C] of `stage` ("coarse" or "fine") from its views [B, V, S, S, 10]."""
        maps: Any = self.views.apply(
            {"params": params[stage]},
            views,
            observation[PROPRIO],
            observation["language"],
            train=dropout_rng is not None,
            rngs={} if dropout_rng is None else {"dropout": dropout_rng},
        )
        return maps

    def point_logits(self, params: Params, stage: str, maps: Array) -> Array:
        """Pixel logits of the stage's point, [B, V, S, S], from its maps [B, V, g, g, C]."""
        name, cells = POINTS[stage], _per_view(maps)
        nothing = jnp.zeros((cells.shape[0], 1, 2))
        traced = self._apply(
            params,
            "trace",
            nothing,
            self.point_schedules[stage],
            {CELLS: cells, MAP: cells},
            labels={name: nothing},  # the trace wants one; no loss is taken of it
            every_row=False,
        )
        logits = traced["predictions"][name]  # [B * V, 1, S, S]
        return logits.reshape(*maps.shape[:2], *logits.shape[-2:])

    def locate(self, params: Params, stage: str, maps: Array) -> Array:
        """The stage's point in its cube, [B, 3]: where the views' probabilities agree best."""
        logits = self.point_logits(params, stage, maps)
        flat = jax.nn.softmax(logits.reshape(*logits.shape[:2], -1), axis=-1)
        return most_likely_point(flat.reshape(logits.shape))

    def gripper_codes(self, params: Params, maps: Array, point: Array) -> Array:
        """Rotation, grip and collision classes int32 [B, 5] at a point [B, 3] of the fine cube."""
        values = generate(
            self.transformer,
            params["transformer"],
            _prompt_rows(maps.shape[0]),
            self.gripper_schedule,
            {PROMPT: self._prompt_features(maps, point)},
        )
        return values[:, PROMPTS:, 0].astype(jnp.int32)

    def decide(self, params: Params, observation: Observation) -> Decision:
        """Both looks at the scene of `observation`."""
        cloud = self._cloud(observation["point_cloud"], observation["colours"])
        maps = self.feature_maps(params, "coarse", self._render(cloud), observation)
        coarse = self.locate(params, "coarse", maps)
        views = self._render(self._zoomed(cloud, coarse))
        maps = self.feature_maps(params, "fine", views, observation)
        fine = self.locate(params, "fine", maps)
        codes = self.gripper_codes(params, maps, fine)
        return Decision({"coarse": coarse, "fine": fine}, codes)

    def losses_of_views(
        self,
        params: Params,
        views: Mapping[str, Array],
        observation: Observation,
        targets: Targets,
        dropout_rng: Array | None = None,
    ) -> Metrics:
        """Loss of every predicted token type, from rendered views; an rng turns dropout on.

        The loss of a point is the mean over views; everything else as `ChunkTransformer.losses`.
        """
        keys = [None] * 3 if dropout_rng is None else list(jax.random.split(dropout_rng, 3))
        maps = {
            stage: self.feature_maps(params, stage, views[stage], observation, key)
            for stage, key in zip(STAGES, keys[:2], strict=True)
        }
        return self.losses_of_maps(params, maps, targets, keys[2])

    def losses_of_maps(
        self,
        params: Params,
        maps: Mapping[str, Array],
        targets: Targets,
        dropout_rng: Array | None = None,
    ) -> Metrics:
        """As `losses_of_views`, from the maps of either stage."""
        keys = [None] * 3 if dropout_rng is None else list(jax.random.split(dropout_rng, 3))
        found: Metrics = {}
        for stage, key in zip(STAGES, keys[:2], strict=True):
            inputs = self._point_inputs(stage, maps[stage], targets)
            found |= self._apply(params, "losses", *inputs, dropout_rng=key)
        inputs = self._gripper_inputs(maps["fine"], targets)
        return found | self._apply(params, "losses", *inputs, dropout_rng=keys[2])

    def _point_inputs(self, stage: str, maps: Array, targets: Targets) -> tuple[Any, ...]:
        """Values, schedule and contexts of the one-token sequences, one per view."""
        size, cells = self.config.image_size, _per_view(maps)
        pixels = project(targets.points[stage], size).reshape(-1, 2)
        label = gaussian_heatmaps(pixels, size, size, self.config.heatmap_sigma)
        contexts = {CELLS: cells, MAP: cells, LABEL_MAP: label}
        return jnp.zeros((cells.shape[0], 1, 2)), self.point_schedules[stage], contexts

    def _gripper_inputs(self, maps: Array, targets: Targets) -> tuple[Any, ...]:
        """Values, schedule and contexts of the sequence after the fine point."""
        fed = targets.fed.astype(jnp.float32)[..., None]
        values = jnp.concatenate([_prompt_rows(len(fed)), fed], axis=1)  # [B, 11, 1]
        contexts = {PROMPT: self._prompt_features(maps, targets.points["fine"])}
        labels = {name: targets.codes[:, i, None] for i, name in enumerate(ROTATIONS)}
        return values, self.gripper_schedule, contexts | labels

    def _prompt_features(self, maps: Array, point: Array) -> Array:
        """Features at the point and largest features, of every view: [B, 6, C]."""
        batch, views = maps.shape[:2]
        pixels = project(point, self.config.image_size).reshape(batch * views, 1, 2)
        stride = (self.config.patch, self.config.patch)
        at_point = sample_feature_grid(_per_view(maps), pixels, stride, "xy")
        at_point = at_point.reshape(batch, views, -1)
        return jnp.concatenate([at_point, maps.max((2, 3))], axis=1)

    def _apply(
        self,
        params: Params,
        method: str,
        *args: Any,
        dropout_rng: Array | None = None,
        **kwargs: Any,
    ) -> Any:
        """A method of the token transformer; an rng turns dropout on."""
        if dropout_rng is not None:
            kwargs |= {"train": True, "rngs": {"dropout": dropout_rng}}
        return self.transformer.apply(
            {"params": params["transformer"]}, *args, method=method, **kwargs
        )


def _per_view(maps: Array) -> Array:
    """[B, V, g, g, C] -> [B * V, g, g, C]: each view is a sequence of its own."""
    return maps.reshape(-1, *maps.shape[2:])


def _prompt_rows(batch: int) -> Array:
    """Values of the prompt tokens, [B, 6, 1]: token i holds row i of the prompt features."""
    rows = jnp.arange(PROMPTS, dtype=jnp.float32)[None, :, None]
    return jnp.broadcast_to(rows, (batch, PROMPTS, 1))

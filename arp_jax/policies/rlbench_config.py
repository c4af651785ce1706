"""Configuration of ARP on RLBench: options in, sizes, token types and static layouts out.

A decision is three sequences: one token in each view of the whole scene, one token in each view of
the scene around that point, then six given feature tokens and rot-x, rot-y, rot-z, grip and
collision one by one (Zhang et al. 2024, RLBench). No parameters here; they are in `arp_rlbench.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.multi_view_transformer import MultiViewConfig
from arp_jax.models.orthographic_views import CHANNELS, VIEWS
from arp_jax.models.tokens import TokenType, freeze_options
from arp_jax.models.transformer_block import LayerConfig
from arp_jax.policies.rlbench_scene import JITTER_OFFSETS
from arp_jax.policies.section import check_at_least_one, check_choices, check_positive, from_section
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec, PolicySpec

# Names as published; they are found in loss names.
PROMPT = "prompt-features"
POINTS = {"coarse": "stage1-screen-pts", "fine": "stage2-screen-pts"}
ROTATIONS = ("rot-x", "rot-y", "rot-z")
GRIPPER = (*ROTATIONS, "grip", "collision")
# Contexts: what the 'cross' layers attend to, what the heat-map head reads, and its label.
CELLS, MAP, LABEL_MAP = "visual-tokens", "visual-featmap", "smooth-heatmap"
# Names of the two groups of layers.
CROSS, SELF = "cross", "self"
# Features per decision that the gripper tokens start from: at the point and the maximum, per view.
PROMPTS = 2 * len(VIEWS)

PROPRIO = "proprio"
ACTION_DIMS = ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper_open", "ignore_collisions")
SCENE_BOUNDS = (-0.3, -0.5, 0.6, 0.7, 0.5, 1.6)

VARIANTS: dict[str, dict[str, Any]] = {
    "arp": {"self_layers": 4, "norm_before_adaln": True, "hidden_dim_mult": 1.25},
    "plus": {"self_layers": 6, "norm_before_adaln": False, "hidden_dim_mult": 2.0},
}


_CHOICES: dict[str, tuple[str, ...]] = {
    "rotation_jitter": (*JITTER_OFFSETS, "none"),
    "compute_dtype": ("float32", "bfloat16"),
}


@dataclasses.dataclass(frozen=True)
class RlbenchArpConfig:
    """Static options of `RlbenchArpPolicy`; the defaults are the published ARP.

    Attributes:
        image_size, patch: side of a view and of a patch, in pixels.
        patch_features: half the width C of the maps and of the token transformer.
        language_tokens, language_dim: shape of the sentence's features (CLIP RN50: 77 x 512).
        view_width, view_heads, view_head_dim, view_layers, view_dropout: of either transformer
            over views.
        heads, dropout: of the token transformer.
        cross_layers: layers that predict points, conditioned on a view.
        self_layers: layers that predict rotation, grip and collision.
        norm_before_adaln: normalise the cross-attention result before it modulates.
        hidden_dim_mult: hidden channels of the heat-map head, relative to C.
        rotation_classes: classes per Euler angle.
        heatmap_sigma: standard deviation of a point's label, in pixels.
        scene_bounds: x_min, y_min, z_min, x_max, y_max, z_max in metres; the rest is not seen.
        zoom: magnification of the second stage.
        augment: training turns, shifts and recolours the scene; the next three say how much.
        shift_fraction: largest shift along each axis, as a fraction of the scene's side.
        turn_degrees: largest turn about x, y and z.
        colour_noise: largest strength of the noise on colours in [0, 1].
        zoom_noise: training zooms in beside the goal by up to this, per axis, in cube units.
        rotation_jitter: noise on teacher-forced rotation tokens: "symmetric", "published" (which
            only lowers them) or "none".
        compute_dtype: "float32" or "bfloat16" (parameters and losses stay float32).
    """

    image_size: int = 224
    patch: int = 14
    patch_features: int = 64
    language_tokens: int = 77
    language_dim: int = 512
    view_width: int = 512
    view_heads: int = 8
    view_head_dim: int = 64
    view_layers: int = 8
    view_dropout: float = 0.1
    heads: int = 8
    dropout: float = 0.1
    cross_layers: int = 4
    self_layers: int = 4
    norm_before_adaln: bool = True
    hidden_dim_mult: float = 1.25
    rotation_classes: int = 72
    heatmap_sigma: float = 1.5
    scene_bounds: tuple[float, ...] = SCENE_BOUNDS
    zoom: float = 4.0
    augment: bool = True
    shift_fraction: tuple[float, ...] = (0.125, 0.125, 0.125)
    turn_degrees: tuple[float, ...] = (0.0, 0.0, 45.0)
    colour_noise: float = 0.05
    zoom_noise: float = 0.1
    rotation_jitter: str = "symmetric"
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        lengths = {"scene_bounds": 6, "shift_fraction": 3, "turn_degrees": 3}
        for key, length in lengths.items():
            if len(getattr(self, key)) != length:
                raise ValueError(f"policy.{key} needs {length} numbers, found {getattr(self, key)}")
        for low, high in zip(self.scene_bounds[:3], self.scene_bounds[3:], strict=True):
            if not low < high:
                raise ValueError(f"policy.scene_bounds: lower >= upper in {self.scene_bounds}")
        check_at_least_one(self, ("cross_layers", "self_layers", "rotation_classes", "heads"))
        if self.image_size % self.patch:
            raise ValueError(
                f"policy.image_size {self.image_size} must be a multiple of policy.patch "
                f"{self.patch}"
            )
        check_positive(self, ("zoom",))

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """Builds the options from plain values; raises ValueError naming an unknown key."""
        return from_section(cls, section, "arp_rlbench")


def published_rlbench(variant: str = "arp") -> RlbenchArpConfig:
    """ARP ("arp", 72,115,622 parameters) or ARP+ ("plus", 74,014,374)."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown; choose one of {tuple(VARIANTS)}")
    return RlbenchArpConfig(**VARIANTS[variant])


def rlbench_spec() -> PolicySpec:
    """Signature of the policy on RLBench: the next keyframe, given one observation.

    The spec lists the vector observation only; the cloud and the sentence, for which `specs` has
    no words, are described in `RlbenchArpPolicy`. An action is a goal for a motion planner, so its
    rate has no meaning: 1 Hz stands for "one decision at a time".
    """
    proprio = FeatureSpec(PROPRIO, ("gripper_open", "finger_left", "finger_right"), "m", "gripper")
    action = ActionSpec(
        dims=ACTION_DIMS,
        unit="m",
        frame="world",
        absolute=(True,) * len(ACTION_DIMS),
        low=(*SCENE_BOUNDS[:3], -1.0, -1.0, -1.0, -1.0, 0.0, 0.0),
        high=(*SCENE_BOUNDS[3:], 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
        rate_hz=1.0,
        gripper="open=1",
    )
    return PolicySpec(ObservationSpec((proprio,)), action, window=1, horizon=1)


def views_config(config: RlbenchArpConfig, spec: PolicySpec) -> MultiViewConfig:
    """Sizes of the transformers over views."""
    return MultiViewConfig(
        views=len(VIEWS),
        image_size=config.image_size,
        channels=CHANNELS,
        patch=config.patch,
        patch_features=config.patch_features,
        proprio_dim=spec.observation.feature(PROPRIO).size,
        language_tokens=config.language_tokens,
        language_dim=config.language_dim,
        width=config.view_width,
        heads=config.view_heads,
        head_dim=config.view_head_dim,
        layers=config.view_layers,
        dropout=config.view_dropout,
    )


def token_types(config: RlbenchArpConfig) -> tuple[TokenType, ...]:
    """Token types in id order: prompt, a point per stage, rotations, grip, collision."""
    size = (config.image_size, config.image_size)
    heatmap = {
        "attn_with": MAP,
        "upscale_ratio": config.patch,
        "label_name": LABEL_MAP,
        "hidden_dim_mult": config.hidden_dim_mult,
    }
    prompt = TokenType(
        PROMPT, is_control=True, embedding_options=freeze_options({"embed_from": PROMPT})
    )
    points = [
        TokenType(
            name,
            dim=2,
            is_continuous=True,
            dict_sizes=size,
            embedding="zero",
            predictor="upsample_from_2d_attn",
            predictor_options=freeze_options(heatmap),
        )
        for name in POINTS.values()
    ]
    rotations = [
        # Training feeds jittered rotations, so the clean label comes as a context of that name.
        TokenType(
            name,
            dict_sizes=(config.rotation_classes,),
            embedding="position_1d",
            predictor_options=freeze_options({"label_name": name}),
        )
        for name in ROTATIONS
    ]
    binary = [TokenType(name, dict_sizes=(2,)) for name in GRIPPER[len(ROTATIONS) :]]
    return (prompt, *points, *rotations, *binary)


def transformer_config(config: RlbenchArpConfig) -> ArpConfig:
    """The token transformer: 'cross' layers for points, 'self' layers for the gripper."""
    cross = LayerConfig.with_dropout(
        config.dropout,
        heads=config.heads,
        condition_on=CELLS,
        adaln=True,
        norm_before_adaln=config.norm_before_adaln,
        name=CROSS,
    )
    own = LayerConfig.with_dropout(config.dropout, heads=config.heads, name=SELF)
    return ArpConfig(
        embed_dim=2 * config.patch_features,
        # Published table sizes; the sequences in use are shorter.
        max_seq_len=17,
        max_chunk_size=2,
        tokens=token_types(config),
        layers=(cross,) * config.cross_layers + (own,) * config.self_layers,
        embed_dropout=config.dropout,
        layer_norm_every_block=False,
    )


def point_schedule(config: ArpConfig, stage: str) -> ChunkSchedule:
    """One token, the point of `stage`, by the 'cross' layers."""
    return ChunkSchedule((config.token_id(POINTS[stage]),), (0,), layer_match=CROSS)


def gripper_schedule(config: ArpConfig) -> ChunkSchedule:
    """Six prompts, then rot-x, rot-y, rot-z, grip and collision, each a chunk of its own.

    Grip and collision do not see the rotations: they depend on the place only.
    """
    names = (PROMPT,) * PROMPTS + GRIPPER
    ids = tuple(config.token_id(name) for name in names)
    blocked = tuple(
        (config.token_id(name), config.token_id(rotation))
        for name in GRIPPER[len(ROTATIONS) :]
        for rotation in ROTATIONS
    )
    return ChunkSchedule(ids, tuple(range(len(ids))), blocked, layer_match=SELF)

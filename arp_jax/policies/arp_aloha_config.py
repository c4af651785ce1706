"""Configuration of ARP on two-armed tasks: a config section in, token types and layouts out.

The sequence is: one state token | H actions | guide points of the left gripper | of the right one.
Guide points are pixels that the grippers will pass; they come after the actions and only help
training, so the layout used for acting ends with the last action. No parameters and no arrays here;
the learned parts are built in `arp_aloha.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

from arp_jax.models.arp_config import ArpConfig
from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.tokens import TokenType, freeze_options
from arp_jax.models.transformer_block import LayerConfig
from arp_jax.policies.plan_labels import chunk_blocks
from arp_jax.policies.section import (
    check_at_least_one,
    check_choices,
    check_positive,
    check_width,
    from_section,
)
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec

# Names of the token types, as published; they are found in loss names.
STATE, ACTION, LEFT, RIGHT = "state", "action", "guide-pt-left", "guide-pt-right"
GUIDES = (LEFT, RIGHT)
# Contexts: all tokens of the observation encoder, and its image tokens as a map.
TOKENS, FEATURE_MAP = "visual-tokens", "visual-featmap"

# Pixels per cell of the encoder's feature map.
STRIDE = 32

_CHOICES: dict[str, tuple[Any, ...]] = {
    "guide_downsample": (1, 2, 4, 8, 16, 32),
    "mixture": ("mean", "mode"),
    "compute_dtype": ("float32", "bfloat16"),
}
_AT_LEAST_ONE = (
    *("guide_chunk", "action_chunk", "action_components", "guide_corr_dim", "layers", "heads"),
    *("encoder_layers", "encoder_hidden"),
)


@dataclasses.dataclass(frozen=True)
class AlohaArpConfig:
    """Static options of `AlohaArpPolicy`; the defaults are the published model.

    Attributes:
        camera: name of the image observation.
        state_feature: name of the robot state, the first token and one row of the encoder.
        image_mean, image_std: starting values of `params["statistics"]["image"]`, per channel of an
            image in [0, 1]; the ones of the ImageNet weights that the trunk is meant to start from.
        guide_points: points per gripper; 0 = no guide tokens, for data without gripper tracks.
        guide_tracks: keys of the left and the right gripper's track in `batch["task"]` (or in
            `batch["observation"]`): float [B, H, 2], pixels (x, y) of `camera`.
        guide_chunk: guide points predicted per pass.
        guide_downsample: the heat-maps have 1 / this of the camera's resolution.
        guide_corr_dim: channels of the projected product of token and feature map.
        guide_sigma: standard deviation of the label in heat-map pixels.
        action_chunk: actions predicted per pass; the horizon or more = all of them.
        one_step: every action and guide point in a single pass (the published ablation, whose
            released code executes the state as the first action; ours executes the actions).
        action_components: Gaussians of the action head.
        low_variance: sample (almost) the mean of a drawn Gaussian instead of from it.
        sample, temperature, mixture: as in `policies.arp_config.ArpPolicyConfig`.
        layers, embed_dim, heads, mlp_ratio, dropout: size of the chunk transformer; width, heads
            and dropout are the observation encoder's too.
        encoder_layers, encoder_hidden: size of the observation encoder's transformer.
        published_padding: reproduce the published mask of actions beyond the episode's end, which
            lies one token too early: the state's flag is the first action's, the last action always
            counts. False masks exactly those actions.
        compute_dtype: "float32" or "bfloat16" (parameters and losses stay float32).
    """

    camera: str = "top"
    state_feature: str = "state"
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    guide_points: int = 10
    guide_tracks: tuple[str, str] = ("left_points", "right_points")
    guide_chunk: int = 1
    guide_downsample: int = 1
    guide_corr_dim: int = 128
    guide_sigma: float = 1.5
    action_chunk: int = 100
    one_step: bool = False
    action_components: int = 1
    low_variance: bool = True
    sample: bool = False
    temperature: float = 1.0
    mixture: str = "mean"
    layers: int = 4
    embed_dim: int = 512
    heads: int = 8
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    encoder_layers: int = 4
    encoder_hidden: int = 3100
    published_padding: bool = False
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        check_at_least_one(self, _AT_LEAST_ONE)
        if self.guide_points < 0:
            raise ValueError(f"policy.guide_points must be 0 or more, found {self.guide_points}")
        for key, size in (("image_mean", 3), ("image_std", 3), ("guide_tracks", 2)):
            if len(getattr(self, key)) != size:
                raise ValueError(f"policy.{key} needs {size} values, found {getattr(self, key)}")
        check_positive(self, ("temperature", "guide_sigma"))
        check_width(self.embed_dim, self.heads)

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """Builds the options from plain values; raises ValueError naming an unknown key."""
        return from_section(cls, section, "arp_aloha")


def published_aloha() -> AlohaArpConfig:
    """The published ALOHA model: 59,159,886 parameters without the trunk's frozen norms."""
    return AlohaArpConfig()


def published_aloha_spec() -> PolicySpec:
    """What the published model sees and commands: gym-aloha's camera "top" and 14 joint values.

    Per arm six joint positions in rad and the gripper's opening as a fraction (1 = open); 50 Hz,
    100 targets a chunk. The limits are a full turn: a simulator or an arm has narrower ones.
    """
    joints = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
    dims = tuple(f"{arm}_{name}" for arm in ("left", "right") for name in (*joints, "gripper"))
    low, high = (*(-math.pi,) * 6, 0.0) * 2, (*(math.pi,) * 6, 1.0) * 2
    return PolicySpec(
        observation=ObservationSpec(
            features=(FeatureSpec("state", dims, "rad", "joint"),),
            cameras=(CameraSpec("top", 480, 640),),
        ),
        action=ActionSpec(
            dims=dims,
            unit="rad",
            frame="joint",
            absolute=(True,) * 14,
            low=low,
            high=high,
            rate_hz=50.0,
            gripper="open=1",
        ),
        window=1,
        horizon=100,
    )


def check_spec(config: AlohaArpConfig, spec: PolicySpec) -> CameraSpec:
    """The camera that the policy looks through; ValueError names what does not fit the options."""
    if spec.window != 1:
        raise ValueError(f"window: arp_aloha sees one observation, found {spec.window}")
    spec.observation.feature(config.state_feature)
    (camera,) = spec.observation.select([config.camera]).cameras or (None,)
    if camera is None:
        raise ValueError(f"policy.camera {config.camera!r} is a vector feature, not a camera")
    if config.guide_points and (camera.height % STRIDE or camera.width % STRIDE):
        raise ValueError(
            f"policy.camera {config.camera!r}: guide points need a height and width divisible by "
            f"{STRIDE}, found {camera.height} x {camera.width}; or set policy.guide_points to 0"
        )
    return camera


def token_types(config: AlohaArpConfig, spec: PolicySpec) -> tuple[TokenType, ...]:
    """The policy's token types in id order: state, action, left and right guide points."""
    state = TokenType(
        name=STATE,
        is_control=True,
        dim=spec.observation.feature(config.state_feature).size,
        is_continuous=True,
        embedding="linear",
    )
    gaussians = {"num_latents": config.action_components, "low_var_eval": config.low_variance}
    action = TokenType(
        name=ACTION,
        dim=spec.action.size,
        is_continuous=True,
        embedding="linear",
        predictor="gmm",
        predictor_options=freeze_options(gaussians),
    )
    heatmap = {
        "attn_with": FEATURE_MAP,
        "upscale_ratio": STRIDE // config.guide_downsample,
        "corr_dim": config.guide_corr_dim,
    }
    guides = (
        TokenType(
            name=name,
            dim=2,
            is_continuous=True,
            embedding="position_2d",
            predictor="upsample_from_2d_attn",
            predictor_options=freeze_options(heatmap),
        )
        for name in GUIDES
    )
    return (state, action, *(guides if config.guide_points else ()))


def training_schedule(config: AlohaArpConfig, spec: PolicySpec) -> ChunkSchedule:
    """Layout of a training sequence: state | actions | left guide points | right guide points."""
    horizon, guides = spec.horizon, config.guide_points
    token_ids = (0, *(1,) * horizon, *(2,) * guides, *(3,) * guides)
    if config.one_step:
        return ChunkSchedule(token_ids, (0, *(1,) * (horizon + 2 * guides)))
    actions = chunk_blocks(1, horizon, config.action_chunk)
    points = chunk_blocks(actions[-1] + 1, 2 * guides, config.guide_chunk)
    return ChunkSchedule(token_ids, (0, *actions, *points))


def action_schedule(config: AlohaArpConfig, spec: PolicySpec) -> ChunkSchedule:
    """Layout used for acting: the training layout up to its last action."""
    whole, end = training_schedule(config, spec), 1 + spec.horizon
    return ChunkSchedule(whole.token_ids[:end], whole.chunk_ids[:end])


def transformer_config(config: AlohaArpConfig, spec: PolicySpec) -> ArpConfig:
    """Size and token types of the chunk transformer."""
    layer = LayerConfig.with_dropout(
        config.dropout,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        condition_on=TOKENS,
        adaln=True,
    )
    length = 1 + spec.horizon + 2 * config.guide_points
    return ArpConfig(
        embed_dim=config.embed_dim,
        max_seq_len=length,
        # Independent of the chunk sizes, so that they can be changed on trained parameters.
        max_chunk_size=length if config.one_step else max(spec.horizon, 2 * config.guide_points),
        tokens=token_types(config, spec),
        layers=(layer,) * config.layers,
        embed_dropout=config.dropout,
        layer_norm_every_block=True,
    )

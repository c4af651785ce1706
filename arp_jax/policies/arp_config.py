"""Configuration of the ARP policy: a config section in, token types and a static layout out.

The sequence of the policy is: W prompt tokens (where the tool is) | coarse plan points, last point
first | H fine actions. `plan_chunk` and `action_chunk` say how many of them are predicted in one
pass. With `action_bins` every number of an action is a token of its own (the "flat" models). No
parameters and no arrays here; the learned parts are built in `arp.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ArpConfig, LayerConfig
from arp_jax.models.tokens import Options, TokenType, freeze_options
from arp_jax.policies.plan_labels import chunk_blocks
from arp_jax.policies.section import (
    check_at_least_one,
    check_choices,
    check_positive,
    check_width,
    from_section,
)
from arp_jax.specs import PolicySpec

# Names of the token types, as published; they are found in loss names.
PROMPT, PLAN, ACTION = "pos", "coarse-plan", "fine-action"
# Context that the layers attend to: the observation encoder's tokens.
OBSERVATION = "visual-token"

ONE_PASS = -1

_CHOICES: dict[str, tuple[str, ...]] = {
    "encoder": ("image", "state"),
    "state_tokens": ("steps", "points"),
    "plan_head": ("heatmap", "mixture"),
    "action_head": ("mixture", "class"),
    "mixture": ("mean", "mode"),
    "compute_dtype": ("float32", "bfloat16"),
}


@dataclasses.dataclass(frozen=True)
class ArpPolicyConfig:
    """Static options of `ArpPolicy`; the defaults are the published Push-T model.

    Attributes:
        encoder: "image" (ResNet-18 on `camera`) or "state" (MLP on `state_features`).
        camera: name of the image observation.
        crop: height and width in pixels seen by the encoder; random in training.
        state_features: observations read by the state encoder; empty = every vector feature.
        state_tokens: "steps" (one context token a time step) or "points" (one a 2-D point).
        state_hidden: width of the state encoder's MLP.
        prompt_feature: observation given as the first W tokens; "" = no prompt.
        plan_points: number of coarse way-points; 0 = no plan.
        plan_head: "heatmap" (pixel distribution) or "mixture" (Gaussians, normalised points).
        plan_chunk: plan points predicted per pass; -1 = plan and actions all in one pass.
        plan_components: Gaussians of the mixture plan head.
        heatmap_size, heatmap_upscale: side of the map in pixels, and per cell of the feature map.
        heatmap_sigma: standard deviation of the label in pixels.
        action_chunk: action tokens predicted per pass.
        action_components: Gaussians of the action head.
        action_bins: 0 = an action is one token. Above: each of its numbers is a token, named like
            the action's dimension and embedded by its bin among so many on [-1, 1].
        action_head: "mixture", or "class" (over the bins; needs action_bins).
        low_variance: sample (almost) the mean of a drawn Gaussian instead of from it.
        sample: `act` draws tokens; False takes each head's most likely value.
        temperature: of the draws; below 1 sharpens every distribution.
        mixture: value of a mixture when not sampling, "mean" (as published) or "mode" (mean of the
            likeliest component).
        layers, embed_dim, heads, mlp_ratio, dropout: size of the transformer.
        adaln: the observation modulates the norms (AdaLN); False adds its cross-attention result.
        norm_before_adaln: normalise the cross-attention result before it modulates.
        layer_norm_every_block: norm after every layer instead of one at the end.
        mask_padded_actions: leave actions beyond the episode's end out of the loss. The published
            training counts them, as repeats of the last action.
        compute_dtype: "float32" or "bfloat16" (parameters and losses stay float32).
    """

    encoder: str = "image"
    camera: str = "image"
    crop: tuple[int, int] = (84, 84)
    state_features: tuple[str, ...] = ()
    state_tokens: str = "steps"
    state_hidden: int = 256
    prompt_feature: str = "agent_pos"
    plan_points: int = 4
    plan_head: str = "heatmap"
    plan_chunk: int = 4
    plan_components: int = 5
    heatmap_size: int = 96
    heatmap_upscale: int = 8
    heatmap_sigma: float = 1.0
    action_chunk: int = 16
    action_components: int = 1
    action_bins: int = 0
    action_head: str = "mixture"
    low_variance: bool = False
    sample: bool = True
    temperature: float = 1.0
    mixture: str = "mean"
    layers: int = 30
    embed_dim: int = 64
    heads: int = 8
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    adaln: bool = True
    norm_before_adaln: bool = False
    layer_norm_every_block: bool = False
    mask_padded_actions: bool = False
    compute_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choices(self, _CHOICES)
        check_at_least_one(
            self, ("action_chunk", "plan_components", "action_components", "layers", "heads")
        )
        if self.plan_points < 0:
            raise ValueError(f"policy.plan_points must be 0 or more, found {self.plan_points}")
        if self.plan_chunk < 1 and self.plan_chunk != ONE_PASS:
            raise ValueError(f"policy.plan_chunk must be positive or -1, found {self.plan_chunk}")
        if self.action_bins < 0 or self.action_bins == 1:
            raise ValueError(f"policy.action_bins must be 0 or >= 2, found {self.action_bins}")
        if self.action_head == "class" and not self.action_bins:
            raise ValueError("policy.action_head 'class' predicts bins: set policy.action_bins")
        check_positive(self, ("temperature",))
        check_width(self.embed_dim, self.heads)
        if self.heatmap_size % self.heatmap_upscale:
            raise ValueError(
                f"policy.heatmap_size {self.heatmap_size} must be a multiple of "
                f"policy.heatmap_upscale {self.heatmap_upscale}"
            )

    @classmethod
    def from_section(cls, section: Mapping[str, Any]) -> Self:
        """Builds the options from plain values; raises ValueError naming an unknown key."""
        return from_section(cls, section, "arp")


def published_push_t() -> ArpPolicyConfig:
    """The published Push-T model (ARP, Push-T configuration): 14,333,861 parameters."""
    return ArpPolicyConfig()


def token_types(config: ArpPolicyConfig, spec: PolicySpec) -> tuple[TokenType, ...]:
    """The policy's token types in id order: prompt and plan (unless absent), then actions."""
    types = []
    if config.prompt_feature:
        types.append(
            TokenType(
                name=PROMPT,
                is_control=True,
                dim=spec.observation.feature(config.prompt_feature).size,
                is_continuous=True,
                embedding="linear",
            )
        )
    if config.plan_points:
        types.append(_plan_type(config, spec.action.size))
    return (*types, *_action_types(config, spec))


def _action_types(config: ArpPolicyConfig, spec: PolicySpec) -> list[TokenType]:
    """One type for whole actions, or one for every number of an action."""
    gaussians = _gaussians(config, config.action_components)
    if not config.action_bins:
        return [
            TokenType(
                name=ACTION,
                dim=spec.action.size,
                is_continuous=True,
                embedding="linear",
                predictor="gmm",
                predictor_options=gaussians,
            )
        ]
    is_class = config.action_head == "class"
    return [
        TokenType(
            name=dimension,
            is_continuous=True,
            dict_sizes=(config.action_bins,),
            bounds=(-1.0, 1.0),
            predictor="class" if is_class else "gmm",
            predictor_options=() if is_class else gaussians,
        )
        for dimension in spec.action.dims
    ]


def _plan_type(config: ArpPolicyConfig, actions: int) -> TokenType:
    if config.plan_head == "mixture":
        return TokenType(
            name=PLAN,
            dim=actions,
            is_continuous=True,
            embedding="linear",
            predictor="gmm",
            predictor_options=_gaussians(config, config.plan_components),
        )
    if actions != 2:
        raise ValueError(f"policy.plan_head 'heatmap' needs 2-D actions, found {actions} dims")
    cells = config.heatmap_size // config.heatmap_upscale
    return TokenType(
        name=PLAN,
        dim=2,
        is_continuous=True,
        embedding="position_2d",
        predictor="upsample_from_2d_attn",
        predictor_options=freeze_options(
            {
                "attn_with": (config.embed_dim, cells, cells),
                "upscale_ratio": config.heatmap_upscale,
            }
        ),
    )


def _gaussians(config: ArpPolicyConfig, components: int) -> Options:
    return freeze_options({"num_latents": components, "low_var_eval": config.low_variance})


def token_counts(config: ArpPolicyConfig, spec: PolicySpec) -> tuple[int, int, int]:
    """Number of prompt, plan and action tokens."""
    prompts = spec.window if config.prompt_feature else 0
    actions = spec.horizon * (spec.action.size if config.action_bins else 1)
    return prompts, config.plan_points, actions


def chunk_ids(config: ArpPolicyConfig, prompts: int, actions: int) -> tuple[int, ...]:
    """Chunk id of every token: prompts one by one, then blocks of plan points and of actions."""
    prompt = tuple(range(prompts))
    if config.plan_chunk == ONE_PASS:
        return prompt + (prompts,) * (config.plan_points + actions)
    plan = chunk_blocks(prompts, config.plan_points, config.plan_chunk)
    first_action = (plan or prompt or (-1,))[-1] + 1
    return prompt + plan + chunk_blocks(first_action, actions, config.action_chunk)


def schedule(config: ArpPolicyConfig, spec: PolicySpec) -> ChunkSchedule:
    """Static layout of the sequence: token type and chunk of every position."""
    prompts, plan, actions = token_counts(config, spec)
    first = [ids for ids in ([0] * prompts, [0] * plan) if ids]
    given = [kind for kind, ids in enumerate(first) for _ in ids]
    kinds = len(token_types(config, spec)) - len(first)
    ids = (*given, *(len(first) + index % kinds for index in range(actions)))
    return ChunkSchedule(token_ids=ids, chunk_ids=chunk_ids(config, prompts, actions))


def transformer_config(config: ArpPolicyConfig, spec: PolicySpec) -> ArpConfig:
    """Size and token types of the chunk transformer."""
    layer = LayerConfig.with_dropout(
        config.dropout,
        heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        condition_on=OBSERVATION,
        adaln=config.adaln,
        norm_before_adaln=config.norm_before_adaln,
    )
    prompts, plan, actions = token_counts(config, spec)
    parts = (plan, actions)
    return ArpConfig(
        embed_dim=config.embed_dim,
        # The published position table has twice the rows that the sequence needs; not so the flat
        # models'.
        max_seq_len=(1 if config.action_bins else 2) * (prompts + sum(parts)),
        # Independent of the chunk sizes, so that they can be changed on trained parameters.
        max_chunk_size=sum(parts) if config.plan_chunk == ONE_PASS else max(parts),
        tokens=token_types(config, spec),
        layers=(layer,) * config.layers,
        embed_dropout=config.dropout,
        layer_norm_every_block=config.layer_norm_every_block,
    )

"""Published RLBench checkpoints of ARP and ARP+ <-> `RlbenchArpPolicy` parameters.

In: a state dict as plain numpy arrays (the `model_state` of a published `.pth`), or our parameters.
Out: the other, with a report of every tensor. The two transformers over views are mapped here; the
`policy.*` part goes through `interop/arp.py`. It reads no file and needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from arp_jax.interop.arp import convert_arp, to_torch_state
from arp_jax.interop.torch_state import Layout, Report, Rule, convert, linear_kernel, to_torch
from arp_jax.models.multi_view_transformer import MultiViewConfig
from arp_jax.policies.arp_rlbench import RlbenchArpPolicy

HEAD_PREFIX = "policy."
STAGE_PREFIXES = {"coarse": "mvt1.", "fine": "mvt2."}

# Learned positions (1, N, F) -> (N, F).
_positions = Layout(lambda x: x.squeeze(0), lambda x: x[None])


def convert_rlbench(
    state: Mapping[str, np.ndarray], policy: RlbenchArpPolicy
) -> tuple[dict[str, Any], Report]:
    """Published state dict -> (parameters of `policy`, report of every tensor).

    Nothing is raised for a partial match; `report.raise_if_incomplete(file)` refuses it.
    """
    head = {k.removeprefix(HEAD_PREFIX): v for k, v in state.items() if k.startswith(HEAD_PREFIX)}
    rest = {k: v for k, v in state.items() if not k.startswith(HEAD_PREFIX)}
    transformer, _, head_report = convert_arp(head, policy.transformer.config)
    template = jax.eval_shape(policy.init, jax.random.key(0))
    views = {stage: template[stage] for stage in STAGE_PREFIXES}
    params, report = convert(rest, view_rules(policy.views.config), views)
    report.used += [HEAD_PREFIX + name for name in head_report.used]
    report.unused += [HEAD_PREFIX + name for name in head_report.unused]
    report.ignored += [HEAD_PREFIX + name for name in head_report.ignored]
    report.missing += [HEAD_PREFIX + name for name in head_report.missing]
    report.misshaped += [(HEAD_PREFIX + n, found, want) for n, found, want in head_report.misshaped]
    return params | {"transformer": transformer}, report


def rlbench_to_torch(params: Mapping[str, Any], policy: RlbenchArpPolicy) -> dict[str, np.ndarray]:
    """Parameters -> the state dict that the published network loads, buffers included."""
    state = to_torch(params, view_rules(policy.views.config))
    head = to_torch_state(params["transformer"], {}, policy.transformer.config)
    return state | {HEAD_PREFIX + name: tensor for name, tensor in head.items()}


def view_rules(config: MultiViewConfig) -> list[Rule]:
    """One rule per tensor of the two transformers over views."""
    return [
        rule
        for stage, prefix in STAGE_PREFIXES.items()
        for rule in _transformer_rules(config, prefix, stage)
    ]


def _transformer_rules(config: MultiViewConfig, prefix: str, stage: str) -> Iterator[Rule]:
    yield Rule(f"{prefix}pos_encoding", (stage, "position_table"), _positions)
    side, channels, features = config.patch, config.channels, config.patch_features

    # A convolution whose stride is its size is a linear layer on patches, flattened as (row,
    # column, channel).
    patches = Layout(
        lambda x: x.transpose(2, 3, 1, 0).reshape(side * side * channels, -1),
        lambda x: x.reshape(side, side, channels, features).transpose(3, 2, 0, 1),
    )
    yield Rule(
        f"{prefix}patchify.conv2d.weight", (stage, "embed_patch", "linear", "kernel"), patches
    )
    yield Rule(f"{prefix}patchify.conv2d.bias", (stage, "embed_patch", "linear", "bias"))
    yield from _norm(f"{prefix}patchify.norm", (stage, "embed_patch", "norm"))
    for theirs, ours in (
        ("proprio_preprocess", "embed_proprio"),
        ("lang_preprocess", "embed_language"),
    ):
        yield from _linear(f"{prefix}{theirs}.linear", (stage, ours, "linear"))
        yield from _norm(f"{prefix}{theirs}.norm", (stage, ours, "norm"))
    yield from _linear(f"{prefix}fc_bef_attn.linear", (stage, "enter"))
    yield from _linear(f"{prefix}fc_aft_attn.linear", (stage, "leave"))
    half = config.layers // 2
    for layer in range(config.layers):
        stack = "within_views" if layer < half else "across_views"
        yield from _layer_rules(f"{prefix}layers.{layer}", (stage, stack), layer % half)


def _layer_rules(name: str, path: tuple[str, ...], index: int) -> Iterator[Rule]:
    """Attention is part 0 of a published layer, the gated MLP part 1."""
    yield from _norm(f"{name}.0.norm", (*path, "norm_attention"), index)
    for theirs, ours in (("to_q", "query"), ("to_kv", "key_value")):
        yield Rule(f"{name}.0.fn.{theirs}.weight", (*path, ours, "kernel"), linear_kernel, index)
    yield from _linear(f"{name}.0.fn.to_out", (*path, "out"), index)
    yield from _norm(f"{name}.1.norm", (*path, "norm_mlp"), index)
    yield from _linear(f"{name}.1.fn.net.0", (*path, "fc1"), index)
    yield from _linear(f"{name}.1.fn.net.2", (*path, "fc2"), index)


def _linear(name: str, path: tuple[str, ...], index: int | None = None) -> Iterator[Rule]:
    yield Rule(f"{name}.weight", (*path, "kernel"), linear_kernel, index)
    yield Rule(f"{name}.bias", (*path, "bias"), index=index)


def _norm(name: str, path: tuple[str, ...], index: int | None = None) -> Iterator[Rule]:
    yield Rule(f"{name}.weight", (*path, "scale"), index=index)
    yield Rule(f"{name}.bias", (*path, "bias"), index=index)

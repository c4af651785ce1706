"""Published ARP weights and configurations <-> ``ArpConfig``, parameters, running statistics.

In: a state dict of the ARP module as plain numpy arrays (its names without any project prefix), and
the published configuration as a dict. Out: what ``ChunkTransformer`` takes; ``to_torch_state`` goes
back. Image encoders around the module belong to the policy that uses them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from arp_jax.interop.torch_state import (
    Report,
    Rule,
    as_is,
    conv_kernel,
    convert,
    feature_map,
    linear_kernel,
    to_torch,
)
from arp_jax.models.chunk_transformer import ArpConfig, ChunkTransformer, LayerConfig
from arp_jax.models.tokens import TokenType, freeze_options
from arp_jax.models.transformer_block import UNROLL_UP_TO

# Tensors that carry nothing: frequencies are recomputed, the counter is not used.
IGNORED_SUFFIXES = ("div_term", "num_batches_tracked", "_dummy_variable")
STATISTICS = {"mean": "running_mean", "var": "running_var"}


def config_from_reference(reference: Mapping[str, Any]) -> ArpConfig:
    """Published model configuration (``cfg_json``) -> ``ArpConfig``.

    Raises:
        ValueError: a token type or layer we cannot represent.
    """
    return ArpConfig(
        embed_dim=reference["n_embd"],
        max_seq_len=reference["max_seq_len"],
        max_chunk_size=reference["max_chunk_size"],
        tokens=tuple(_token(t) for t in reference["tokens"]),
        layers=tuple(_layer(layer) for layer in reference["layers"]),
        embed_dropout=reference.get("embd_pdrop", 0.1),
        layer_norm_every_block=reference.get("layer_norm_every_block", True),
    )


def _token(token: Mapping[str, Any]) -> TokenType:
    bounds = token.get("bounds")
    return TokenType(
        name=token["name"],
        is_control=token.get("is_control", False),
        dim=token.get("dim", 1),
        is_continuous=token.get("is_continuous", False),
        dict_sizes=tuple(token.get("dict_sizes", (1,))),
        bounds=None if bounds is None else tuple(bounds),
        embedding=token.get("embedding", "discrete"),
        embedding_options=freeze_options(token.get("embedding_kwargs") or {}),
        predictor=token.get("predictor", "class"),
        predictor_options=freeze_options(token.get("predictor_kwargs") or {}),
    )


def _layer(layer: Mapping[str, Any]) -> LayerConfig:
    own, cross = layer.get("attn_kwargs") or {}, layer.get("cond_attn_kwargs") or {}
    return LayerConfig(
        heads=layer["n_head"],
        mlp_ratio=layer.get("mlp_ratio", 4.0),
        mlp_dropout=layer.get("mlp_dropout", 0.1),
        attention_dropout=own.get("attn_pdrop", 0.1),
        residual_dropout=own.get("resid_pdrop", 0.1),
        cross_attention_dropout=cross.get("attn_pdrop", 0.1),
        cross_residual_dropout=cross.get("resid_pdrop", 0.1),
        condition_on=layer.get("condition_on") or "",
        adaln=bool(layer.get("AdaLN", False)),
        norm_before_adaln=bool(layer.get("norm_before_AdaLN", False)),
        name=layer.get("name") or "",
    )


def _pair(
    torch_name: str, path: tuple[str, ...], kind: str, index: int | None = None
) -> Iterator[Rule]:
    """Rules for ``<torch_name>.weight`` and ``.bias`` of a linear, conv or norm layer."""
    weight = "scale" if kind == "norm" else "kernel"
    layout = {"linear": linear_kernel, "conv": conv_kernel, "norm": as_is}[kind]
    yield Rule(f"{torch_name}.weight", (*path, weight), layout, index)
    yield Rule(f"{torch_name}.bias", (*path, "bias"), index=index)


def _embedding_rules(config: ArpConfig) -> Iterator[Rule]:
    yield Rule("chunk_embedder.chunk_embed.weight", ("query_embedding", "chunk_table"))
    yield Rule("chunk_embedder.token_type_embed.weight", ("query_embedding", "type_table"))
    yield Rule("pos_emb.weight", ("position_table",))
    for i, token in enumerate(config.tokens):
        path, name = (f"value_embeddings_{token.name}",), f"token_embedders.{i}.embed"
        if token.embedding == "linear":
            yield from _pair(name, (*path, "linear"), "linear")
        elif token.embedding == "discrete" and not token.embeds_from_context:
            for j in range(token.dim):
                yield Rule(f"{name}.{j}.weight", (*path, f"table_{j}"))


def _layer_rules(config: ArpConfig) -> Iterator[Rule]:
    number = 0
    for s, (layer, depth) in enumerate(config.stacks()):
        for k in range(depth):
            yield from _block_rules(config, layer, number, _LayerPlace(f"stacks_{s}", k, depth))
            number += 1
    if not config.layer_norm_every_block:
        yield from _pair("final_ln", ("final_norm",), "norm")


@dataclass(frozen=True)
class _LayerPlace:
    """Layer ``number`` of a stack: a subtree of its own, or a row of stacked parameters."""

    stack: str
    number: int
    depth: int

    @property
    def index(self) -> int | None:
        return self.number if self.depth > UNROLL_UP_TO else None

    def path(self, part: str) -> tuple[str, ...]:
        name = part if self.index is not None else f"{part}_{self.number}"
        return self.stack, name


def _block_rules(
    config: ArpConfig, layer: LayerConfig, number: int, place: _LayerPlace
) -> Iterator[Rule]:
    block, path, index = f"blocks.{number}", place.path("layers"), place.index
    linear: dict[str, tuple[str, ...]] = {
        "attn.c_attn": (*path, "attention", "qkv"),
        "attn.c_proj": (*path, "attention", "out"),
        "mlp.fc1": (*path, "mlp", "fc1"),
        "mlp.fc2": (*path, "mlp", "fc2"),
    }
    norms: dict[str, str] = {}
    if not layer.adaln:
        norms |= {"ln_attn": "norm_attention", "ln_mlp": "norm_mlp"}
    if layer.condition_on:
        norms["norm_cond"] = "norm_context_query"
        context = place.path("contexts")
        linear |= {
            "cond_attn.kv_attn": (*context, "key_value"),
            "cond_attn.q_attn": (*context, "query"),
            "cond_attn.c_proj": (*context, "out"),
        }
    if layer.adaln:
        linear["adaLN_modulation.1"] = (*path, "modulation")
    for name, ours in linear.items():
        yield from _pair(f"{block}.{name}", ours, "linear", index)
    for name, norm in norms.items():
        yield from _pair(f"{block}.{name}", (*path, norm), "norm", index)
    if config.layer_norm_every_block:
        yield from _pair(f"layer_norms.{number}", (*path, "norm_out"), "norm", index)


def _head_rules(config: ArpConfig) -> Iterator[Rule]:
    for i, token in enumerate(config.tokens):
        if token.is_control:
            continue
        name, path = f"token_predictors.{i}", (f"heads_{token.name}",)
        if token.predictor == "class":
            yield from _pair(f"{name}.linear", (*path, "logits"), "linear")
        elif token.predictor == "gmm":
            for part in ("fc1", "fc2"):
                yield from _pair(f"{name}.mlp.{part}", (*path, part), "linear")
        else:
            yield from _heatmap_rules(token, name, path)


def _heatmap_rules(token: TokenType, name: str, path: tuple[str, ...]) -> Iterator[Rule]:
    if not isinstance(token.predictor_option("attn_with"), str):
        yield Rule(f"{name}.attn_with", (*path, "feature_map"), feature_map)
    if token.predictor_option("corr_dim", -1) > 0:
        for j in range(3):
            yield from _pair(f"{name}.corr_proj.{3 * j}", (*path, "projector", f"conv_{j}"), "conv")
            norm = (*path, "projector", f"norm_{j}")
            yield from _pair(f"{name}.corr_proj.{3 * j + 1}", norm, "norm")
    upsampler = (*path, "upsampler")
    for j in range(3):
        yield from _pair(f"{name}.upsample.net_out.{2 * j}", (*upsampler, f"low_{j}"), "conv")
    for j in range(2):
        yield from _pair(f"{name}.upsample.net_mask.{2 * j}", (*upsampler, f"mask_{j}"), "conv")


def parameter_rules(config: ArpConfig) -> list[Rule]:
    """One rule per trainable tensor of the published module."""
    return [*_embedding_rules(config), *_layer_rules(config), *_head_rules(config)]


def statistics_rules(config: ArpConfig) -> list[Rule]:
    """One rule per running batch-norm statistic; paths are {token type: {norm_j: mean | var}}."""
    rules = []
    for i, token in enumerate(config.tokens):
        is_heatmap = not token.is_control and token.predictor == "upsample_from_2d_attn"
        if not is_heatmap or token.predictor_option("corr_dim", -1) <= 0:
            continue
        for j in range(3):
            for ours, theirs in STATISTICS.items():
                name = f"token_predictors.{i}.corr_proj.{3 * j + 1}.{theirs}"
                rules.append(Rule(name, (token.name, f"norm_{j}", ours)))
    return rules


def initial_statistics(config: ArpConfig) -> dict[str, Any]:
    """Running statistics of an untrained model: mean 0, variance 1; {} without batch norm."""
    found: dict[str, Any] = {}
    for rule in statistics_rules(config):
        token = config.tokens[config.token_id(rule.path[0])]
        size = token.predictor_option("corr_dim")
        value = np.zeros(size, np.float32) if rule.path[2] == "mean" else np.ones(size, np.float32)
        found.setdefault(rule.path[0], {}).setdefault(rule.path[1], {})[rule.path[2]] = value
    return found


def convert_arp(
    state: Mapping[str, np.ndarray], config: ArpConfig
) -> tuple[dict[str, Any], dict[str, Any], Report]:
    """State dict -> (parameters, running statistics, report).

    Nothing is raised here: ``report.raise_if_incomplete(file)`` refuses a partial match.
    """
    template = jax.eval_shape(ChunkTransformer(config).init_params, jax.random.key(0))
    statistics_template = initial_statistics(config)
    running = statistics_rules(config)
    rules = parameter_rules(config)

    def ignored(name: str) -> bool:
        return name.endswith(IGNORED_SUFFIXES)

    params, report = convert(state, rules, template, ignored)
    statistics, more = convert(state, running, statistics_template, ignored)
    report.used += more.used
    report.missing += more.missing
    report.misshaped += more.misshaped
    wanted = {rule.torch_name for rule in running}
    report.unused = [name for name in report.unused if name not in wanted]
    return params, statistics, report


def to_torch_state(
    params: Mapping[str, Any], statistics: Mapping[str, Any], config: ArpConfig
) -> dict[str, np.ndarray]:
    """(parameters, running statistics) -> state dict; the exact inverse of ``convert_arp``.

    Returns:
        Every tensor that the published module expects when it loads strictly, constant buffers
        included. The counter of batches, which we do not keep, is 0.
    """
    return {
        **to_torch(params, parameter_rules(config)),
        **to_torch(statistics, statistics_rules(config)),
        **constant_tensors(config),
    }


def constant_tensors(config: ArpConfig) -> dict[str, np.ndarray]:
    """Buffers of the published module that are functions of its configuration."""
    found: dict[str, np.ndarray] = {}
    for i, token in enumerate(config.tokens):
        if token.embedding in ("position_1d", "position_2d"):
            width = config.embed_dim // (2 if token.embedding == "position_2d" else 1)
            period = token.embedding_option("N", 10000.0)
            found[f"token_embedders.{i}.div_term"] = _frequencies(width, period)
    for rule in statistics_rules(config):
        counter = rule.torch_name.rpartition(".")[0] + ".num_batches_tracked"
        found[counter] = np.zeros((), np.int64)
    return found


def _frequencies(width: int, period: float) -> np.ndarray:
    """period^(-2k/width), float32 [1, width / 2], rounded in the order in which PyTorch does."""
    exponents = np.arange(0, width, 2, dtype=np.float32) * np.float32(-math.log(period) / width)
    return np.exp(exponents.astype(np.float64)).astype(np.float32)[None]

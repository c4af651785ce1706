"""ACT and ACT++ checkpoints: PyTorch state dicts <-> the parameters of `ActPolicy`.

In: a state dict (`policy_best.ckpt` holds one, every name beginning with "model.") and a policy of
the same sizes. Out: its parameters and a report of every tensor, or the way back. What lies in
files of its own (the prior over codes, statistics) is added under prefixes by `act_files.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.dataset_stats import STATS_PREFIX
from arp_jax.interop.torch_detr import decoder_rules
from arp_jax.interop.torch_encoder import detr_encoder_rules, linear_rules, norm_rules
from arp_jax.interop.torch_state import (
    Report,
    Rule,
    as_is,
    convert,
    linear_kernel,
    pointwise_kernel,
    to_torch,
)
from arp_jax.interop.torch_trunks import named_trunk_rules
from arp_jax.models.detr_encoder import sine_positions_1d
from arp_jax.models.latent_prior import LatentPrior
from arp_jax.policies.act import ActPolicy

PREFIX, PRIOR_PREFIX = "model.", "latent_model."
_TABLE = "pos_table"


def act_rules(policy: ActPolicy, prefix: str = PREFIX) -> Iterator[Rule]:
    """One rule per tensor of the policy's network, under {"net": ...}."""
    net = policy.net
    linear = {"input_proj_robot_state": "state_dense", "latent_out_proj": "style_dense"}
    linear |= {"action_head": "action_head", "is_pad_head": "pad_head"}
    for theirs, leaf in linear.items():
        yield from linear_rules(f"{prefix}{theirs}", ("net", leaf))
    yield Rule(f"{prefix}query_embed.weight", ("net", "queries"))
    yield Rule(f"{prefix}additional_pos_embed.weight", ("net", "first_positions"))
    yield from detr_encoder_rules(
        f"{prefix}transformer.encoder.", ("net", "encoder"), net.encoder_layers, net.pre_norm
    )
    yield from decoder_rules(
        f"{prefix}transformer.decoder.", ("net", "decoder"), net.decoder_layers
    )
    if net.cameras:
        yield from linear_rules(f"{prefix}input_proj", ("net", "cell_dense"), pointwise_kernel)
        for i in range(1 if net.shared_trunk else net.cameras):
            theirs, ours = f"{prefix}backbones.{i}.0.body.", ("net", f"trunks_{i}")
            yield from named_trunk_rules(
                net.trunk, theirs, ours, net.depth, net.trunk_norm, net.trunk_width
            )
    if net.style_outputs:
        yield from detr_encoder_rules(
            f"{prefix}encoder.", ("net", "style", "encoder"), net.style_layers, net.pre_norm
        )
        yield Rule(f"{prefix}cls_embed.weight", ("net", "style", "summary"))
        yield from linear_rules(f"{prefix}encoder_joint_proj", ("net", "style", "state_dense"))
        yield from linear_rules(f"{prefix}encoder_action_proj", ("net", "style", "action_dense"))
        yield from linear_rules(f"{prefix}latent_proj", ("net", "style", "head"))


def prior_rules(prior: LatentPrior, prefix: str = "", path: tuple[str, ...] = ()) -> Iterator[Rule]:
    """One rule per tensor of ACT++'s prior over codes, at `path` of our tree."""
    yield from linear_rules(f"{prefix}input_layer", (*path, "code_dense"))
    yield Rule(f"{prefix}weight_pos_embed.weight", (*path, "positions"))
    yield from linear_rules(f"{prefix}output_layer", (*path, "head"))
    # The published list begins with a dropout and ends with a norm.
    for i in range(prior.layers):
        yield from prior_block_rules(f"{prefix}attention_blocks.{i + 1}", (*path, f"blocks_{i}"))
    yield from norm_rules(f"{prefix}attention_blocks.{prior.layers + 1}", (*path, "norm_out"))


def prior_block_rules(name: str, ours: tuple[str, ...]) -> Iterator[Rule]:
    """Rules of one block of the prior."""
    yield from norm_rules(f"{name}.ln_1", (*ours, "norm_attention"))
    yield from norm_rules(f"{name}.ln_2", (*ours, "norm_mlp"))
    yield Rule(f"{name}.attn.in_proj_weight", (*ours, "qkv", "kernel"), linear_kernel)
    yield Rule(f"{name}.attn.in_proj_bias", (*ours, "qkv", "bias"), as_is)
    yield from linear_rules(f"{name}.attn.out_proj", (*ours, "out"))
    yield from linear_rules(f"{name}.mlp.0", (*ours, "fc1"))
    yield from linear_rules(f"{name}.mlp.2", (*ours, "fc2"))


def convert_act(
    state: Mapping[str, np.ndarray], policy: ActPolicy
) -> tuple[dict[str, Any], Report]:
    """State dict -> (parameters of `policy`, report of every tensor).

    The prior over codes is converted too when its tensors are there, under `PRIOR_PREFIX`; of a
    policy's own file alone the parameters are {"net"}.
    """
    prefix = PREFIX if any(name.startswith(PREFIX) for name in state) else ""
    rules, template = list(act_rules(policy, prefix)), _template(policy)
    if any(name.startswith(PRIOR_PREFIX) for name in state):
        rules += prior_rules(policy.prior, PRIOR_PREFIX, ("prior",))
    else:
        template.pop("prior", None)
    constants = constant_tensors(policy, prefix)

    def ignored(name: str) -> bool:
        if name.startswith(STATS_PREFIX) or name.endswith("num_batches_tracked"):
            return True
        if name != prefix + _TABLE:
            return name in constants
        expected = constants[name]
        found = np.asarray(state[name])
        return found.shape == expected.shape and np.allclose(found, expected, atol=1e-5)

    return convert(state, rules, template, ignored)


def act_to_torch(
    params: Mapping[str, Any], policy: ActPolicy, prefix: str = PREFIX
) -> dict[str, np.ndarray]:
    """Parameters (or gradients) of `policy` -> state dict; the inverse of `convert_act`.

    Holds every name that the published module has, also the buffer of positions and, without a
    style encoder, the layers that nothing reads (zeros).
    """
    return to_torch(params, act_rules(policy, prefix)) | constant_tensors(policy, prefix)


def prior_to_torch(params: Mapping[str, Any], policy: ActPolicy) -> dict[str, np.ndarray]:
    """The prior over codes of `policy`'s parameters -> state dict of ACT++'s latent model."""
    return to_torch(params["prior"], prior_rules(policy.prior))


def constant_tensors(policy: ActPolicy, prefix: str = PREFIX) -> dict[str, np.ndarray]:
    """Tensors of the published module that are no parameters of ours."""
    net, spec = policy.net, policy.spec
    table = sine_positions_1d(net.horizon + 2, net.embed_dim)[None]
    found = {f"{prefix}{_TABLE}": table}
    if not net.style_outputs:
        # A published policy without a style encoder keeps what surrounds it; nothing reads it.
        width = net.embed_dim
        state = spec.observation.feature(policy.state_feature).size
        inputs = {"encoder_joint_proj": state, "encoder_action_proj": net.action_dim}
        shapes: dict[str, tuple[int, ...]] = {
            f"{name}.weight": (width, size) for name, size in inputs.items()
        }
        shapes |= {f"{name}.bias": (width,) for name in inputs}
        outputs = 2 * policy.config.latent_dim
        shapes |= {"latent_proj.weight": (outputs, width), "latent_proj.bias": (outputs,)}
        shapes |= {"cls_embed.weight": (1, width)}
        found |= {prefix + name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return found


def convert_prior(
    state: Mapping[str, np.ndarray], prior: LatentPrior
) -> tuple[dict[str, Any], Report]:
    """State dict of ACT++'s latent model -> (parameters of `prior`, report)."""
    codes = jax.ShapeDtypeStruct((1, prior.classes, prior.values), jnp.float32)
    template = jax.eval_shape(prior.init, jax.random.key(0), codes)["params"]
    return convert(state, list(prior_rules(prior)), template)


def _template(policy: ActPolicy) -> dict[str, Any]:
    """Shapes of the policy's parameters."""
    spec = policy.spec
    shapes: dict[str, Any] = {
        f.name: ((1, 1, f.size), jnp.float32) for f in spec.observation.features
    }
    for camera in spec.observation.cameras:
        shapes[camera.name] = ((1, 1, camera.height, camera.width, 3), jnp.uint8)
    observation = {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}
    batch = {
        "observation": observation,
        "action": jax.ShapeDtypeStruct((1, spec.horizon, spec.action.size), jnp.float32),
        "action_is_pad": jax.ShapeDtypeStruct((1, spec.horizon), jnp.bool_),
    }
    return dict(jax.eval_shape(policy.init, jax.random.key(0), batch))

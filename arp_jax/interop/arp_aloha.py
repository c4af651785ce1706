"""Published ALOHA checkpoints of ARP: a torch state dict <-> `AlohaArpPolicy` parameters.

The dict is a plain mapping from name to numpy array: the whole policy (`model.*` with the
`normalize_*` statistics) or its network alone. Image statistics are parameters of our policy; those
of state and action are a run's normalizer, which `normalizer_from_state` reads.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.arp import (
    IGNORED_SUFFIXES,
    constant_tensors,
    parameter_rules,
    statistics_rules,
)
from arp_jax.interop.torch_encoder import detr_encoder_rules, linear_rules
from arp_jax.interop.torch_resnet import trunk_rules
from arp_jax.interop.torch_state import (
    Layout,
    Report,
    Rule,
    convert,
    pointwise_kernel,
    to_torch,
)
from arp_jax.normalize import Affine, Normalizer
from arp_jax.policies.arp_aloha import AlohaArpPolicy

MODEL_PREFIX, HEAD_PREFIX = "model.", "policy."
STATE_STATISTICS = "normalize_inputs.buffer_observation_state"
# The same numbers twice: for the targets of training and for the outputs.
ACTION_STATISTICS = ("normalize_targets.buffer_action", "unnormalize_outputs.buffer_action")
_NORMALIZERS = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")

# Channel statistics (3, 1, 1) -> (3,).
_channels = Layout(lambda x: x.squeeze((1, 2)), lambda x: x[:, None, None])


def convert_aloha(
    state: Mapping[str, np.ndarray], policy: AlohaArpPolicy
) -> tuple[dict[str, Any], Report]:
    """Published state dict -> (parameters of `policy`, report of every tensor).

    A dict of the network alone has no image statistics: the ones of the policy's config stay. State
    and action statistics are among the report's ignored tensors. Nothing is raised for a partial
    match; `report.raise_if_incomplete(file)` refuses it.
    """
    is_whole = any(name.startswith(_NORMALIZERS) for name in state)
    prefix = MODEL_PREFIX if any(name.startswith(MODEL_PREFIX) for name in state) else ""
    rules = network_rules(policy, prefix)
    if is_whole:
        rules += image_rules(policy)

    def ignored(name: str) -> bool:
        return name.endswith(IGNORED_SUFFIXES) or name.startswith(
            (STATE_STATISTICS, *ACTION_STATISTICS)
        )

    params, report = convert(state, rules, _template(policy), ignored)
    if not is_whole:
        image = policy.initial_statistics()["image"]
        params["statistics"]["image"] = {name: np.asarray(x) for name, x in image.items()}
    return params, report


def aloha_to_torch(
    params: Mapping[str, Any], policy: AlohaArpPolicy, normalizer: Normalizer | None = None
) -> dict[str, np.ndarray]:
    """Parameters of `policy` -> the published state dict; the inverse of `convert_aloha`.

    Args:
        params: parameters of `policy`.
        policy: says which tensors there are.
        normalizer: the run's, with the state feature and "action"; its offsets and scales become
            the means and standard deviations of `normalize_*`. Without it those are left out, and
            the result only loads non-strictly into the whole published policy.
    """
    found = to_torch(params, [*network_rules(policy, MODEL_PREFIX), *image_rules(policy)])
    constants = constant_tensors(policy.transformer.config)
    found |= {MODEL_PREFIX + HEAD_PREFIX + name: value for name, value in constants.items()}
    for name, affine in _named_affines(policy, normalizer or {}):
        found[f"{name}.mean"] = np.array(affine.offset)
        found[f"{name}.std"] = np.array(affine.scale)
    return found


def normalizer_from_state(state: Mapping[str, np.ndarray], policy: AlohaArpPolicy) -> Normalizer:
    """The state's and the action's (x - mean) / std, as the published policy stores them.

    Published code divides by std + 1e-8; that is below the precision of any std above 1e-3.

    Raises:
        ValueError: a statistic is missing (a dict of the network alone), or a std is not positive.
    """
    found = {}
    sources = {policy.config.state_feature: STATE_STATISTICS, "action": ACTION_STATISTICS[1]}
    for feature, name in sources.items():
        for key in (f"{name}.mean", f"{name}.std"):
            if key not in state:
                raise ValueError(f"state dict has no {key}: give the whole policy's checkpoint")
        found[feature] = Affine(state[f"{name}.mean"], state[f"{name}.std"])
    return found


def network_rules(policy: AlohaArpPolicy, prefix: str = MODEL_PREFIX) -> list[Rule]:
    """One rule per tensor of the network, running statistics included, names after `prefix`."""
    config = policy.transformer.config
    rules = [
        *trunk_rules("backbone.", ("encoder", "trunk"), policy.encoder.depth, policy.encoder.norm),
        *detr_encoder_rules("encoder.", ("encoder", "encoder"), policy.encoder.layers),
        *linear_rules("encoder_robot_state_input_proj", ("encoder", "state_dense")),
        *linear_rules("encoder_img_feat_input_proj", ("encoder", "cell_dense"), pointwise_kernel),
        Rule("encoder_robot_pos_embed.weight", ("encoder", "state_position")),
        *_moved(parameter_rules(config), HEAD_PREFIX, "transformer"),
        *_moved(statistics_rules(config), HEAD_PREFIX, "statistics"),
    ]
    return [dataclasses.replace(rule, torch_name=prefix + rule.torch_name) for rule in rules]


def image_rules(policy: AlohaArpPolicy) -> list[Rule]:
    """Rules of the camera's mean and standard deviation."""
    name = f"normalize_inputs.buffer_observation_images_{policy.config.camera}"
    path = ("statistics", "image")
    return [Rule(f"{name}.{part}", (*path, part), _channels) for part in ("mean", "std")]


def _moved(rules: list[Rule], prefix: str, branch: str) -> Iterator[Rule]:
    """Rules of a part: its tensors after `prefix`, its leaves under `branch`."""
    for rule in rules:
        name, path = prefix + rule.torch_name, (branch, *rule.path)
        yield dataclasses.replace(rule, torch_name=name, path=path)


def _template(policy: AlohaArpPolicy) -> dict[str, Any]:
    """Shapes of the policy's parameters."""
    config, observation = policy.config, policy.spec.observation
    (camera,) = observation.select([config.camera]).cameras
    size = observation.feature(config.state_feature).size
    batch = {
        config.camera: jax.ShapeDtypeStruct((1, 1, camera.height, camera.width, 3), jnp.uint8),
        config.state_feature: jax.ShapeDtypeStruct((1, 1, size), jnp.float32),
    }
    return jax.eval_shape(policy.init, jax.random.key(0), {"observation": batch})


def _named_affines(
    policy: AlohaArpPolicy, normalizer: Mapping[str, Affine]
) -> Iterator[tuple[str, Affine]]:
    feature = policy.config.state_feature
    if feature in normalizer:
        yield STATE_STATISTICS, normalizer[feature]
    if "action" in normalizer:
        for name in ACTION_STATISTICS:
            yield name, normalizer["action"]

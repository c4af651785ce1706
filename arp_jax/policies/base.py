"""The interface that every policy implements, and the two things done with any policy.

Flows in: a config section and a `PolicySpec`. Flows out: a `Policy` (static configuration only) and
`make_physical_act`, the function that evaluation, export and serving share: raw observations in,
physical actions out. What happens *between* two `act` calls is `arp_jax.control`, not this file.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from arp_jax.normalize import Affine, normalize_observation, unnormalize
from arp_jax.specs import PolicySpec

Params = dict[str, Any]
Batch = dict[str, Any]
Metrics = dict[str, jax.Array]
POLICIES = ("arp", "arp_aloha", "arp_rlbench", "arp_digits", "act", "diffusion", "vinn")
METHODS = ("init", "loss", "act")
PhysicalAct = Callable[[Params, Mapping[str, jax.Array], jax.Array], jax.Array]


class Policy(Protocol):
    """A policy: static configuration, pure functions.

    Observations are normalised features {name: float32 [B, W, D]} and images
    {name: uint8 [B, W, h, w, 3]}; actions are normalised float32 [B, H, A].

    Two things a policy may have besides (VINN has both):

    `finish(params, training, held_out) -> (params, report)` is called once when training is done,
    with the averaged parameters and two iterables of batches: every training window once, and the
    held-out windows. The parameters that it returns are those that act, and may be another tree
    than those that are trained; `training.checkpoint.load_run` reads them. `report` holds plain
    JSON values, among them "summary", one line.

    `learns_from_average = True` makes the training step call `loss(..., average=tree)` with the
    moving average of the parameters, for a loss against a target network.
    """

    spec: PolicySpec

    def init(self, rng: jax.Array, batch: Batch) -> Params:
        """Fresh parameters, a nested dict of arrays."""
        ...

    def loss(
        self, params: Params, batch: Batch, rng: jax.Array, *, train: bool
    ) -> tuple[jax.Array, Metrics]:
        """Scalar loss and a dict of scalar metrics."""
        ...

    def act(
        self, params: Params, observation: Mapping[str, jax.Array], rng: jax.Array
    ) -> jax.Array:
        """A chunk of normalised actions [B, H, A]; pure and jittable."""
        ...


def build_policy(
    name: str,
    section: Mapping[str, Any],
    spec: PolicySpec,
    images: Mapping[str, Any] | None = None,
) -> Policy:
    """Builds the policy called `name` from its config section.

    Args:
        name: one of `POLICIES`, or "package.module:Class" for a policy of the user's own, which is
            imported and called as `Class(options, spec)` with the section's values except "name".
        section: plain values of the policy's config; "name" is ignored.
        spec: what the policy sees and commands.
        images: plain values of the config's `images` section, what happens to frames before the
            network sees them; None for nothing.

    Raises:
        ValueError: for an unknown name, a class that cannot be imported or is no policy, or an
            unknown key in a section (named).
    """
    from arp_jax.policies.preprocessed import preprocessed

    return preprocessed(lambda seen: _build_network(name, section, seen), spec, images or {})


def _build_network(name: str, section: Mapping[str, Any], spec: PolicySpec) -> Policy:
    """The policy for frames as it sees them."""
    options = {key: value for key, value in section.items() if key != "name"}
    if name == "arp":
        from arp_jax.policies.arp import ArpPolicy, ArpPolicyConfig

        return ArpPolicy(ArpPolicyConfig.from_section(options), spec)
    if name == "arp_aloha":
        from arp_jax.policies.arp_aloha import AlohaArpConfig, AlohaArpPolicy

        return AlohaArpPolicy(AlohaArpConfig.from_section(options), spec)
    if name == "arp_rlbench":
        from arp_jax.policies.arp_rlbench import RlbenchArpConfig, RlbenchArpPolicy

        return RlbenchArpPolicy(RlbenchArpConfig.from_section(options), spec)
    if name == "arp_digits":
        from arp_jax.policies.arp_digits import DigitsArpConfig, DigitsArpPolicy

        return DigitsArpPolicy(DigitsArpConfig.from_section(options), spec)
    if name == "act":
        from arp_jax.policies.act import ActConfig, ActPolicy

        return ActPolicy(ActConfig.from_section(options), spec)
    if name == "diffusion":
        from arp_jax.policies.diffusion import DiffusionConfig, DiffusionPolicy

        return DiffusionPolicy(DiffusionConfig.from_section(options), spec)
    if name == "vinn":
        from arp_jax.policies.vinn import VinnConfig, VinnPolicy

        return VinnPolicy(VinnConfig.from_section(options), spec)
    if ":" in name:
        return import_policy(name)(options, spec)
    raise ValueError(
        f"policy.name {name!r} is unknown; choose one of {POLICIES}, or name a class of your own "
        "as 'package.module:Class'"
    )


def import_policy(name: str) -> Callable[[Mapping[str, Any], PolicySpec], Policy]:
    """The class that "package.module:Class" names; nothing has to be registered.

    Raises:
        ValueError: no such module on Python's path, no such class in it, or one without the
            methods of `Policy`.
    """
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"policy.name {name!r}: {error}; start where the file lies, or add its folder to "
            "PYTHONPATH"
        ) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ValueError(f"policy.name {name!r}: {module.__file__} has no class {class_name!r}")
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    if missing:
        raise ValueError(
            f"policy.name {name!r}: the class has no {missing[0]}(); see docs/new_policy.md"
        )
    return found


def make_physical_act(policy: Policy, normalizer: Mapping[str, Affine]) -> PhysicalAct:
    """The policy in physical units: `act(params, observation, rng) -> [B, H, A]`.

    The observation holds features in physical units {name: [B, W, D]} and uint8 images; actions are
    unnormalised and clipped to the limits of the policy's `ActionSpec`.
    """
    low = jnp.asarray(policy.spec.action.low, jnp.float32)  # [A]
    high = jnp.asarray(policy.spec.action.high, jnp.float32)  # [A]

    def act(params: Params, observation: Mapping[str, jax.Array], rng: jax.Array) -> jax.Array:
        normalised = policy.act(params, normalize_observation(observation, normalizer), rng)
        return jnp.clip(unnormalize(normalised, normalizer["action"]), low, high)  # [B, H, A]

    return act

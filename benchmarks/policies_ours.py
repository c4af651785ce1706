"""ACT, Diffusion Policy and VINN in the sizes of `policies.py`: our side of each measurement.

In: the name of a policy, a size, a batch. Out: calls that take one training step or answer one
query, with parameters and inputs that are functions of the size alone, so that the other process
(`policies_reference.py`) makes the same. The first call returns what the two sides compare.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from arp_jax.evaluation.config_policy import spec_of_config
from arp_jax.policies.base import Batch, Params, Policy, build_policy
from arp_jax.profile import load_config
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from arp_jax.specs import PolicySpec

# Learning rate and weight decay of the published recipes; they do not change the time of a step.
LEARNING_RATE, WEIGHT_DECAY = 1e-5, 1e-4
PROBE_STEP = 50  # noise level at which the U-Nets are compared
REFERENCE, SMALL = "reference", "small"
ACT_SMALL = {"embed_dim": 64, "hidden": 128, "style_layers": 2, "encoder_layers": 2}
ACT_SMALL |= {"decoder_layers": 2}
UNET = {"widths": (256, 512, 1024), "step_size": 256, "kernel": 5, "diffusion_steps": 100}
UNET_SMALL = {"widths": (32, 64), "step_size": 32, "kernel": 5, "diffusion_steps": 100}
# VINN on ACT++'s tasks: 50 episodes of 400 steps, features of a ResNet-18, 14 joints.
LIBRARY = {REFERENCE: (20_000, 512, 14, 100), SMALL: (500, 32, 14, 10)}
NEIGHBORS, STATE_WEIGHT = 5, 10.0


class Case(NamedTuple):
    """A policy with parameters, and a batch of its normalised inputs."""

    policy: Policy
    params: Params
    batch: Batch


def act_case(size: str, batch: int) -> Case:
    """ACT as published: one camera of 480 x 640, 14 joints, chunks of 100, seven decoder layers."""
    config = load_config("act_aloha.py:published")
    spec = spec_of_config(config)
    section = config["policy"]
    if size == SMALL:
        section |= ACT_SMALL
        cameras = tuple(
            dataclasses.replace(c, height=96, width=128) for c in spec.observation.cameras
        )
        observation = dataclasses.replace(spec.observation, cameras=cameras)
        spec = dataclasses.replace(spec, observation=observation, horizon=10)
    return make_case("act", section, spec, batch)


def diffusion_case(size: str, batch: int) -> Case:
    """Diffusion Policy's published U-Net on Push-T's key points, DDPM with 100 levels."""
    observation = OBSERVATION_SPEC.select(("agent_pos", "keypoints"))
    spec = PolicySpec(observation, ACTION_SPEC, 2, 16, -1)
    return make_case("diffusion", UNET if size == REFERENCE else UNET_SMALL, spec, batch)


CASES = {"act": act_case, "diffusion": diffusion_case}


def make_case(name: str, section: dict[str, Any], spec: PolicySpec, size: int) -> Case:
    """Fresh parameters and random inputs, the same wherever it is called."""
    policy, rng = build_policy(name, section, spec), np.random.default_rng(0)
    observation: dict[str, np.ndarray] = {
        f.name: rng.uniform(-1, 1, (size, spec.window, f.size)).astype(np.float32)
        for f in spec.observation.features
    }
    for camera in spec.observation.cameras:
        shape = (size, spec.window, camera.height, camera.width, 3)
        observation[camera.name] = rng.integers(0, 256, shape, np.uint8)
    chunks = (size, spec.horizon, spec.action.size)
    batch = {
        "observation": observation,
        "action": rng.uniform(-1, 1, chunks).astype(np.float32),
        "action_is_pad": np.zeros(chunks[:2], bool),
    }
    one = jax.tree.map(lambda x: x[:1], batch)
    params = jax.jit(policy.init)(jax.random.key(0), one)
    return Case(policy, jax.device_get(params), batch)


def probe_noise(case: Case) -> np.ndarray:
    """The noisy chunks on which U-Nets are compared, like the batch's actions."""
    return np.random.default_rng(1).standard_normal(case.batch["action"].shape, np.float32)


def probe(name: str, case: Case, training: bool) -> np.ndarray:
    """What must be equal on both sides: without dropout, without drawn noise."""
    policy: Any = case.policy
    noisy = probe_noise(case)

    @jax.jit
    def compute(params: Params, batch: Batch) -> jax.Array:
        if name == "diffusion":
            seen = policy._condition(params, batch["observation"], None)
            steps = jnp.full(len(noisy), PROBE_STEP)
            return policy.net.apply({"params": params["net"]}, noisy, steps, seen)
        if training:
            return policy.encode_style(params, batch)  # mean and log variance
        return policy.act(params, batch["observation"], jax.random.key(0))

    return np.asarray(compute(case.params, case.batch))


def our_inference(name: str, size: str, batch: int) -> Callable[[], np.ndarray]:
    """One call = one query of the policy for a batch of observations."""
    case = CASES[name](size, batch)
    act, state = jax.jit(case.policy.act), {"first": True}
    params = jax.tree.map(jnp.asarray, case.params)
    observation = jax.tree.map(jnp.asarray, case.batch["observation"])

    def run() -> np.ndarray:
        found = np.asarray(act(params, observation, jax.random.key(0)))
        if name == "diffusion" and state.pop("first", False):
            return probe(name, case, training=False)
        return found

    return run


def our_training(name: str, size: str, batch: int) -> Callable[[], np.ndarray]:
    """One call = forward, backward and AdamW on one batch."""
    case = CASES[name](size, batch)
    tx = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    data = jax.tree.map(jnp.asarray, case.batch)

    @functools.partial(jax.jit, donate_argnums=(0, 1))  # as arp_jax.train does
    def update(params: Any, opt_state: Any, step: jax.Array) -> tuple[Any, Any, jax.Array]:
        key = jax.random.fold_in(jax.random.key(0), step)
        loss = functools.partial(case.policy.loss, batch=data, rng=key, train=True)
        (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    params = jax.tree.map(jnp.asarray, case.params)
    state: dict[str, Any] = {"now": (params, tx.init(params)), "step": 0}

    def run() -> np.ndarray:
        *now, value = update(*state["now"], state["step"])
        state["now"], state["step"] = tuple(now), state["step"] + 1
        if state["step"] == 1:
            value.block_until_ready()
            return probe(name, case, training=True)
        return np.asarray(value)

    return run


class Library(NamedTuple):
    """Features [N, F], joints [N, S], chunks [N, H, A] of a library, and a query [1, F], [1, S]."""

    features: np.ndarray
    joints: np.ndarray
    chunks: np.ndarray
    query: tuple[np.ndarray, np.ndarray]


def library(size: str) -> Library:
    """Random; the query lies near the middle row."""
    rows, features, joints, horizon = LIBRARY[size]
    rng = np.random.default_rng(0)
    # The scale of a ResNet's pooled features and of joints in rad.
    seen = np.abs(rng.standard_normal((rows, features), np.float32))
    state = 0.3 * rng.standard_normal((rows, joints), np.float32)
    chunks = rng.uniform(-1, 1, (rows, horizon, joints)).astype(np.float32)
    near = slice(rows // 2, rows // 2 + 1)
    return Library(seen, state, chunks, (seen[near] + 0.01, state[near] + 0.01))


def our_query(size: str) -> Callable[[], np.ndarray]:
    """One call = one chunk out of the library, weighted as the published program does."""
    from arp_jax.models.nearest_neighbors import distances_to, nearest
    from arp_jax.models.neighbor_average import weighted_average

    found = library(size)

    @jax.jit
    def query(parts: Any, chunks: jax.Array, seen: Any) -> jax.Array:
        weights = (1.0, STATE_WEIGHT)
        rows = nearest(seen, parts, weights, NEIGHBORS).rows
        # Published weights are those of the library's first rows, not of the nearest.
        first = distances_to(seen, [part[:NEIGHBORS] for part in parts], weights)
        return weighted_average(first, chunks[rows], NEIGHBORS)

    arguments = jax.tree.map(
        jnp.asarray, ((found.features, found.joints), found.chunks, found.query)
    )
    return lambda: np.asarray(query(*arguments))

"""How faithful are the Push-T engines to gym-pusht (pymunk)?

The same initial conditions and the same actions are played open loop in gym-pusht and in ours, and
the block's centre of gravity and the coverage are compared: on adversarial actions over 10 to 300
steps, and on recorded human demonstrations. Example (a minute on two CPU cores for "analytic"):

    python benchmarks/push_t_fidelity.py --data path/to/pusht_cchi_v7_replay.zarr --json out.json
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from arp_jax.data.formats.zarr_replay import open_replay
from arp_jax.sim.push_t import geometry, reset_laws
from arp_jax.sim.push_t.coverage import coverage
from arp_jax.sim.push_t.env import load_engine

CHECKPOINTS = (10, 50, 100, 300)
ADVERSARIES = ("waypoints", "through_block", "iid")


class Rollouts(NamedTuple):
    """Open-loop episodes in gym-pusht, padded to the longest.

    Attributes:
        initial: float32 [N, 5] raw reset draws.
        actions: float32 [N, T, 2]; padding repeats the last action.
        lengths: int [N].
        block: float64 [N, T, 3] block pose after each action; NaN as padding.
        coverage: float64 [N, T], NaN as padding.
    """

    initial: np.ndarray
    actions: np.ndarray
    lengths: np.ndarray
    block: np.ndarray
    coverage: np.ndarray


def read_demonstrations(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Human demonstrations as (initial [5], actions [T, 2]) pairs."""
    replay = open_replay(path)
    bounds = replay.bounds()
    states = replay.arrays["state"].read(0, bounds[-1][1])
    actions = replay.arrays["action"].read(0, bounds[-1][1])
    first = states[[start for start, _ in bounds]]
    initial = reset_laws.initial_from_pose(first[:, :2], first[:, 2:])
    return [(i, actions[s:e]) for i, (s, e) in zip(initial, bounds, strict=True)]


Controller = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


def replay(actions: np.ndarray) -> Controller:
    """Plays recorded actions."""
    return lambda t, agent, block: actions[t]


def adversary(kind: str, rng: np.random.Generator) -> Controller:
    """Targets that provoke contacts: far points held a while, through the block, or pure noise."""
    if kind not in ADVERSARIES:
        raise ValueError(f"adversary {kind!r} is unknown; choose one of {ADVERSARIES}")
    held = {"until": 0, "target": np.zeros(2)}

    def act(t: int, agent: np.ndarray, block: np.ndarray) -> np.ndarray:
        if t >= held["until"]:
            held["until"] = t + int(1 if kind == "iid" else rng.integers(3, 12))
            held["target"] = rng.uniform(0, geometry.WORLD_SIZE, 2)
            if kind == "through_block":
                center = np.asarray(geometry.center_of_gravity(block))
                held["target"] = agent + rng.uniform(1.0, 1.8) * (center - agent)
        return np.clip(held["target"], 0, geometry.WORLD_SIZE)

    return act


def roll_reference(
    episodes: list[tuple[np.ndarray, Controller, int]], description: str = "gym-pusht"
) -> Rollouts:
    """Plays (initial condition, controller, steps) episodes in gym-pusht."""
    import gym_pusht  # noqa: F401  (registers the environment)
    import gymnasium

    env = gymnasium.make("gym_pusht/PushT-v0").unwrapped
    count, longest = len(episodes), max(steps for _, _, steps in episodes)
    actions = np.zeros((count, longest, 2), np.float32)
    block = np.full((count, longest, 3), np.nan)
    covered = np.full((count, longest), np.nan)
    for n, (initial, controller, steps) in enumerate(tqdm(episodes, description, disable=None)):
        _, info = env.reset(options={"reset_to_state": np.float32(initial).astype(np.float64)})
        for t in range(steps):
            actions[n, t] = controller(t, info["pos_agent"], info["block_pose"])
            *_, info = env.step(actions[n, t].astype(np.float64))
            block[n, t], covered[n, t] = info["block_pose"], info["coverage"]
        actions[n, steps:] = actions[n, steps - 1]
    initial = np.stack([initial for initial, _, _ in episodes]).astype(np.float32)
    lengths = np.array([steps for _, _, steps in episodes])
    return Rollouts(initial, actions, lengths, block, covered)


def roll_ours(rollouts: Rollouts, engine: str) -> tuple[np.ndarray, np.ndarray]:
    """Block poses [N, T, 3] and coverages [N, T] of the same episodes in one of our engines."""
    physics_engine = load_engine(engine)

    @jax.jit
    @jax.vmap
    def roll(initial: jax.Array, actions: jax.Array) -> tuple[jax.Array, jax.Array]:
        def advance(physics, action):  # type: ignore[no-untyped-def]
            physics = physics_engine.step(physics, action)
            block = physics_engine.pose(physics)[1]
            return physics, (block, coverage(block))

        return jax.lax.scan(advance, physics_engine.reset(initial), actions)[1]

    block, covered = roll(jnp.asarray(rollouts.initial), jnp.asarray(rollouts.actions))
    return np.asarray(block, np.float64), np.asarray(covered, np.float64)


def position_error(block: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance of the centres of gravity (px), [N, T]; NaN where the reference is padding."""

    def center(pose: np.ndarray) -> np.ndarray:
        arm = np.stack([-np.sin(pose[..., 2]), np.cos(pose[..., 2])], -1)
        return pose[..., :2] + geometry.CENTER_OF_GRAVITY_Y * arm

    return np.linalg.norm(center(block) - center(reference), axis=-1)


def adversarial_episodes(count: int, seed: int) -> list[tuple[np.ndarray, Controller, int]]:
    """Episodes of `max(CHECKPOINTS)` steps, the adversaries taking turns."""
    initial = reset_laws.current_initial_conditions(range(seed, seed + count))
    return [
        (
            initial[n],
            adversary(ADVERSARIES[n % 3], np.random.default_rng(seed + n)),
            CHECKPOINTS[-1],
        )
        for n in range(count)
    ]


def compare_adversarial(rollouts: Rollouts, engine: str) -> dict[str, dict[str, float]]:
    """Position and coverage errors at `CHECKPOINTS`, for all episodes and per adversary."""
    block, covered = roll_ours(rollouts, engine)
    error = position_error(block, rollouts.block)
    coverage_error = np.abs(covered - rollouts.coverage)
    rows = {}
    for name, part in [("all", slice(None))] + [
        (kind, slice(k, None, 3)) for k, kind in enumerate(ADVERSARIES)
    ]:
        for steps in CHECKPOINTS:
            at = error[part, steps - 1]
            rows[f"{name}, {steps} steps"] = {
                "median_px": float(np.median(at)),
                "p90_px": float(np.quantile(at, 0.9)),
                "within_1_px": float(np.mean(at < 1)),
                "coverage_p90": float(np.quantile(coverage_error[part, steps - 1], 0.9)),
            }
    return rows


def compare_demonstrations(rollouts: Rollouts, engine: str) -> dict[str, float]:
    """Final position error, maximum-coverage difference and success agreement."""
    block, covered = roll_ours(rollouts, engine)
    last = rollouts.lengths - 1
    final = position_error(block, rollouts.block)[np.arange(len(last)), last]
    covered = np.where(np.isnan(rollouts.coverage), -1.0, covered)
    best, reference_best = covered.max(1), np.nanmax(rollouts.coverage, 1)
    success = geometry.SUCCESS_COVERAGE
    return {
        "episodes": len(last),
        "final_median_px": float(np.median(final)),
        "final_p95_px": float(np.quantile(final, 0.95)),
        "final_max_px": float(final.max()),
        "final_within_1_px": float(np.mean(final < 1)),
        "max_coverage_difference": float(np.abs(best - reference_best).max()),
        "success_agreement": float(np.mean((best > success) == (reference_best > success))),
    }


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Prints rows of equal keys as a Markdown table."""
    columns = list(next(iter(rows.values())))
    print(f"\n{title}\n| | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[c]:.4g}" for c in columns) + " |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="replay buffer of human demonstrations (zarr)")
    parser.add_argument("--engine", choices=("analytic", "mjx", "both"), default="analytic")
    parser.add_argument("--episodes", type=int, default=96, help="adversarial episodes")
    parser.add_argument("--seed", type=int, default=0, help="first seed of those episodes")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    engines = ("analytic", "mjx") if arguments.engine == "both" else (arguments.engine,)
    result: dict[str, dict] = {"adversarial": {}, "demonstrations": {}}
    try:
        demonstrations = read_demonstrations(arguments.data) if arguments.data else None
    except ValueError as error:
        parser.error(str(error))
    adversarial = roll_reference(adversarial_episodes(arguments.episodes, arguments.seed))
    for engine in engines:
        rows = compare_adversarial(adversarial, engine)
        result["adversarial"][engine] = rows
        print_table(f"{engine}: {arguments.episodes} adversarial episodes", rows)
    if demonstrations is not None:
        human = roll_reference([(i, replay(a), len(a)) for i, a in demonstrations], "human")
        for engine in engines:
            result["demonstrations"][engine] = compare_demonstrations(human, engine)
        print_table("Human demonstrations", result["demonstrations"])
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

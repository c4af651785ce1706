"""The search of the Push-T planner: sample pushes, roll them out, execute the best prefix.

A seed flows in and an `Episode` out (`start`); an `Episode` flows in and a later one out, with the
steps that were executed (`advance`). Pure functions over one environment; the driver in
`push_t_planner` vmaps them. Every random number comes from the episode's key and step count.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from arp_jax.sim.experts import push_t_primitives as primitives
from arp_jax.sim.push_t import dynamics, geometry
from arp_jax.sim.push_t.coverage import coverage as block_coverage
from arp_jax.sim.push_t.reset_laws import sample_initial_condition

LEAD_IN = 3  # control steps simulated before the agent's target reaches the approach point


@dataclasses.dataclass(frozen=True)
class PlannerConfig:
    """How demonstrations are planned.

    Attributes:
        candidates: primitives tried in each round (K).
        rounds: search rounds; every round after the first resamples around the best 1/16.
        horizon_steps: control steps (0.1 s) that a candidate is rolled out, near the block.
        execute_steps: longest prefix of a plan executed before planning again.
        max_steps: control steps after which a demonstration counts as failed.
        coverage_weight: px of mean keypoint distance that full coverage is worth.
        time_weight: px of mean keypoint distance that one control step costs.
        min_speed, max_speed: px per control step of the agent's way round the block; the speed of a
            demonstration is drawn uniformly between them.
        max_action_noise: px; the standard deviation of the Gaussian noise on executed actions is
            drawn per demonstration, uniformly between 0 and this. The noisy actions are recorded.
        slots: environments planned together in one program (part of the fixed batch shape).
        seed: shifts all random numbers of the planner; the demonstrations' seeds come on top.
    """

    candidates: int = 64
    rounds: int = 2
    horizon_steps: int = 16
    execute_steps: int = 12
    max_steps: int = 300
    coverage_weight: float = 30.0
    time_weight: float = 0.15
    min_speed: float = 16.0
    max_speed: float = 24.0
    max_action_noise: float = 2.0
    slots: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.candidates < 16 or self.rounds < 1 or self.slots < 1:
            raise ValueError("PlannerConfig: candidates must be >= 16, rounds and slots >= 1")
        if self.execute_steps < 1 or self.horizon_steps <= LEAD_IN + 1:
            raise ValueError(
                f"PlannerConfig: execute_steps must be >= 1 and horizon_steps > {LEAD_IN + 1}"
            )
        if not 5.0 < self.min_speed <= self.max_speed:
            raise ValueError("PlannerConfig: 5 < min_speed <= max_speed must hold (px per step)")


@struct.dataclass
class Plan:
    """A way and how many of its control steps are done (float32)."""

    way: primitives.Way
    elapsed: Array


@struct.dataclass
class Episode:
    """A demonstration in the making; the driver batches it over slots."""

    key: Array
    physics: dynamics.Physics
    target: Array  # [2] px, commanded last (without noise)
    plan: Plan  # the last plan
    has_plan: Array  # bool, whether that plan is not finished
    speed: Array  # px per step
    noise: Array  # px
    steps: Array  # int32, control steps done
    done: Array  # bool


@struct.dataclass
class Piece:
    """What a planning step executed, [execute_steps, ...]; entries not `valid` are void."""

    action: Array
    agent_pos: Array
    block_pose: Array
    coverage: Array
    valid: Array


def start(seed: Array, config: PlannerConfig) -> tuple[Episode, Array]:
    """A fresh episode of a seed, and its raw initial condition [5]."""
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    initial_key, speed_key, noise_key, key = jax.random.split(key, 4)
    initial = sample_initial_condition(initial_key, "legacy")
    speed = jax.random.uniform(speed_key, minval=config.min_speed, maxval=config.max_speed)
    noise = jax.random.uniform(noise_key, maxval=config.max_action_noise)
    return begin(initial, key, speed, noise), initial


def begin(initial: Array, key: Array, speed: Array, noise: Array) -> Episode:
    """A fresh episode.

    Args:
        initial: [5] raw initial condition.
        key: of everything random that follows.
        speed: px per control step on the way round the block.
        noise: px, standard deviation on executed actions.
    """
    physics = dynamics.reset(initial)
    # A placeholder of the right shape; `has_plan` keeps it out of the first search.
    nothing = primitives.sample(key, speed)
    way = primitives.way_of(initial[:2], dynamics.pose(physics)[1], nothing, speed)
    return Episode(
        key=key,
        physics=physics,
        target=initial[:2],
        plan=Plan(way=way, elapsed=jnp.float32(0.0)),
        has_plan=jnp.bool_(False),
        speed=speed,
        noise=noise,
        steps=jnp.int32(0),
        done=jnp.bool_(False),
    )


def _cost(physics: dynamics.Physics, config: PlannerConfig) -> Array:
    """Distance to the goal in px: mean over the eight keypoints, less a bonus for coverage."""
    _, block = dynamics.pose(physics)
    goal = jnp.asarray(geometry.keypoints(jnp.asarray(geometry.GOAL_POSE))).reshape(8, 2)
    offset = geometry.keypoints(block).reshape(8, 2) - goal
    distance = jnp.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2 + 1e-6)
    # Written out: a reduction may associate differently under another batch shape.
    mean = sum(distance[index] for index in range(8)) / 8.0
    return mean - config.coverage_weight * block_coverage(block)


def _jump(physics: dynamics.Physics, way: primitives.Way, time: Array) -> dynamics.Physics:
    """The state after following `way` for `time` steps, if the block is not touched meanwhile.

    The agent follows a target that moves at constant speed with a lag of damping / stiffness = 2
    control steps. At time <= 0 the state is returned as it is.
    """
    lag = geometry.AGENT_DAMPING / geometry.AGENT_STIFFNESS * geometry.CONTROL_HZ
    before, now = primitives.targets(way, jnp.stack([time - lag, time]))
    velocity = (now - before) * (geometry.CONTROL_HZ / lag)
    moved = dataclasses.replace(
        physics,
        agent_x=before[0],
        agent_y=before[1],
        agent_vx=velocity[0],
        agent_vy=velocity[1],
        agent_ages=tuple(jnp.full_like(age, dynamics.FORGOTTEN) for age in physics.agent_ages),
    )
    return jax.tree.map(lambda new, old: jnp.where(time > 0, new, old), moved, physics)


def _roll_out(
    physics: dynamics.Physics, way: primitives.Way, elapsed: Array, config: PlannerConfig
) -> tuple[Array, Array]:
    """Lowest cost once the push of `way` has begun, and the steps from now that lead there.

    The way round the block is not simulated but for its last `LEAD_IN` steps: nothing is touched on
    it, so all rolled-out steps are spent near the block. `elapsed` steps of the way are done.
    """
    arrival = primitives.arrival(way)
    skipped = jnp.maximum(jnp.floor(arrival) - LEAD_IN - elapsed, 0.0)
    physics = _jump(physics, way, jnp.where(skipped > 0, elapsed + skipped, 0.0))
    times = skipped + jnp.arange(1.0, config.horizon_steps + 1.0)  # from now
    actions = primitives.targets(way, elapsed + times)

    def body(
        carry: tuple[dynamics.Physics, Array, Array], inputs: tuple[Array, Array]
    ) -> tuple[tuple[dynamics.Physics, Array, Array], None]:
        physics, best, steps = carry
        action, time = inputs
        physics = dynamics.step(physics, action)
        cost = _cost(physics, config) + config.time_weight * time
        # Only pushes count: standing still would otherwise win whenever no sample improves.
        better = (cost < best) & (elapsed + time > arrival)
        return (physics, jnp.where(better, cost, best), jnp.where(better, time, steps)), None

    carry = (physics, jnp.float32(jnp.inf), jnp.float32(1.0))
    (_, cost, steps), _ = jax.lax.scan(body, carry, (actions, times))
    return cost, steps


def _search(episode: Episode, key: Array, config: PlannerConfig) -> tuple[Plan, Array]:
    """The best plan found for one environment and how many of its steps to execute."""
    count = config.candidates
    elites = max(count // 16, 4)
    _, block = dynamics.pose(episode.physics)
    sample_key, search_key = jax.random.split(key)
    first = jax.vmap(lambda k: primitives.sample(k, episode.speed))(
        jax.random.split(sample_key, count)
    )

    def one_round(carry: tuple, inputs: tuple[Array, Array]) -> tuple[tuple, None]:
        proposals, best_cost, best_plan, best_steps = carry
        round_key, index = inputs
        ways = jax.vmap(lambda p: primitives.way_of(episode.target, block, p, episode.speed))(
            proposals
        )
        plans = Plan(way=ways, elapsed=jnp.zeros(count))
        # What is left of the last plan competes in the first round, so that the agent keeps going
        # where it was going unless something better turned up.
        keep = (jnp.arange(count) == 0) & (index == 0) & episode.has_plan

        def choose(old: Array, new: Array) -> Array:
            return jnp.where(keep.reshape((count,) + (1,) * (new.ndim - 1)), old, new)

        plans = jax.tree.map(choose, episode.plan, plans)
        cost, steps = jax.vmap(
            lambda plan: _roll_out(episode.physics, plan.way, plan.elapsed, config)
        )(plans)
        winner = jnp.argmin(cost)
        better = cost[winner] < best_cost
        best_plan = jax.tree.map(
            lambda new, old: jnp.where(better, new[winner], old), plans, best_plan
        )
        best_steps = jnp.where(better, steps[winner], best_steps)
        best_cost = jnp.where(better, cost[winner], best_cost)

        elite = jax.lax.top_k(-jnp.where(keep, jnp.inf, cost), elites)[1]
        pick_key, noise_key = jax.random.split(round_key)
        picked = elite[jax.random.randint(pick_key, (count,), 0, elites)]
        parents = jax.tree.map(lambda field: field[picked], proposals)
        proposals = jax.vmap(primitives.perturb)(jax.random.split(noise_key, count), parents)
        return (proposals, best_cost, best_plan, best_steps), None

    carry = (first, jnp.float32(jnp.inf), episode.plan, jnp.float32(1.0))
    inputs = (jax.random.split(search_key, config.rounds), jnp.arange(config.rounds))
    (_, _, plan, steps), _ = jax.lax.scan(one_round, carry, inputs)
    return plan, steps


def advance(episode: Episode, config: PlannerConfig) -> tuple[Episode, Piece]:
    """Plans once and executes the prefix of the best plan."""
    search_key, noise_key = jax.random.split(jax.random.fold_in(episode.key, episode.steps))
    plan, wanted = _search(episode, search_key, config)
    executed = jnp.minimum(wanted, config.execute_steps)
    times = jnp.arange(1.0, config.execute_steps + 1.0)
    targets = primitives.targets(plan.way, plan.elapsed + times)
    noise = episode.noise * jax.random.normal(noise_key, (config.execute_steps, 2))
    actions = jnp.clip(targets + noise, 0.0, geometry.WORLD_SIZE)

    def body(episode: Episode, inputs: tuple) -> tuple[Episode, Piece]:
        time, action, target = inputs
        valid = (time <= executed) & ~episode.done
        agent, block = dynamics.pose(episode.physics)
        stepped = dynamics.step(episode.physics, action)
        physics = jax.tree.map(
            lambda new, old: jnp.where(valid, new, old), stepped, episode.physics
        )
        coverage = block_coverage(dynamics.pose(physics)[1])
        steps = episode.steps + valid.astype(jnp.int32)
        done = (coverage > geometry.SUCCESS_COVERAGE) | (steps >= config.max_steps)
        episode = dataclasses.replace(
            episode,
            physics=physics,
            target=jnp.where(valid, target, episode.target),
            steps=steps,
            done=episode.done | (valid & done),
        )
        return episode, Piece(action, agent, block, coverage, valid)

    episode, piece = jax.lax.scan(body, episode, (times, actions, targets))
    # A plan whose best moment has come is used up.
    rest = dataclasses.replace(plan, elapsed=plan.elapsed + executed)
    return dataclasses.replace(episode, plan=rest, has_plan=executed < wanted), piece

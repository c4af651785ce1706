"""How many Push-T environment steps per second, beside gym-pusht on one machine?

Ours runs E environments in one jitted program, with and without a policy in the loop; gym-pusht
runs in 1 and in 2 independent processes. One environment step is one action (0.1 s of simulated
time) and one observation. Compilation is reported apart, warm-up is left out. Example (2 minutes):

    python benchmarks/sim_push_t.py --json out.json [--run RUNS/push_t] [--envs 1,64,256,1024]
"""

import argparse
import functools
import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hardware import hardware, write_report

from arp_jax.control.history import push_observation, start_history
from arp_jax.sim.env import State
from arp_jax.sim.gym_pusht_env import make_gym_env
from arp_jax.sim.push_t import geometry
from arp_jax.sim.push_t.env import PushT
from arp_jax.sim.push_t.reset_laws import legacy_initial_conditions

OBSERVATIONS = {"state": ("agent_pos", "block_pose"), "image": ("agent_pos", "image")}
GYM_OBSERVATIONS = {"state": "state", "image": "pixels_agent_pos"}
FIRST_SEED = 100_000
PACKAGES = ("jax", "jaxlib", "numpy", "gym-pusht", "pymunk", "gymnasium")

Observation = dict[str, jax.Array]
# (histories {name: [E, W, ...]}, key) -> actions to execute [E, execute, A], physical units
Act = Callable[[Observation, jax.Array], jax.Array]


class Chooser(NamedTuple):
    """A policy: `act` sees the last `window` observations and gives `execute` actions."""

    act: Act
    window: int
    execute: int


class Row(NamedTuple):
    """One measurement."""

    simulator: str
    observation: str
    policy: str
    envs: int
    steps_per_second: float
    compile_seconds: float


def random_actions(envs: int, steps: int) -> np.ndarray:
    """Targets [steps, envs, 2] all over the board: float32 px."""
    rng = np.random.default_rng(0)
    return rng.uniform(0, geometry.WORLD_SIZE, (steps, envs, 2)).astype(np.float32)


def repeat_for(seconds: float, call: Callable[[], Any]) -> float:
    """Mean seconds of a call that blocks on its result, over at least `seconds` and two calls."""
    count, begin = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - begin < seconds:
        call()
        count += 1
    return (time.perf_counter() - begin) / count


def open_loop(env: PushT, states: State, actions: jax.Array) -> State:
    """States [E] after actions [T, E, 2]."""

    def body(states: State, action: jax.Array) -> tuple[State, None]:
        # The observation is part of the carried state, so it is made at every step.
        return jax.vmap(env.step)(states, action), None

    return jax.lax.scan(body, states, actions)[0]


def closed_loop(env: PushT, chooser: Chooser, states: State, keys: jax.Array) -> State:
    """States [E] after one chunk of `chooser.execute` actions per key of keys [N]."""

    def execute(carry: tuple, action: jax.Array) -> tuple[tuple, None]:
        states, history = carry
        states = jax.vmap(env.step)(states, action)
        return (states, jax.vmap(push_observation)(history, states.observation)), None

    def decide(carry: tuple, key: jax.Array) -> tuple[tuple, None]:
        actions = chooser.act(carry[1], key)  # [E, execute, A]
        return jax.lax.scan(execute, carry, jnp.swapaxes(actions, 0, 1))[0], None

    start = functools.partial(start_history, window=chooser.window)
    history = jax.vmap(start)(states.observation)
    return jax.lax.scan(decide, (states, history), keys)[0][0]


def measure_ours(
    kind: str,
    envs: int,
    seconds: float,
    chooser: Chooser | None = None,
    observations: tuple[str, ...] | None = None,
) -> Row:
    """Env-steps/s of the analytic engine.

    Args:
        kind: "state" or "image"; names the row, and the observations unless these are given.
        envs: environments in one program (E).
        seconds: measuring time.
        chooser: a policy in the loop; None plays random actions.
        observations: what the policy sees.
    """
    env = PushT(observations=observations or OBSERVATIONS[kind])
    initial = legacy_initial_conditions(range(FIRST_SEED, FIRST_SEED + envs))
    states = jax.jit(jax.vmap(env.reset_to))(jnp.asarray(initial))
    # Calls of a similar length at every E.
    steps = max(20000 // (envs + 60), 16)
    if chooser is None:
        program, inputs = (
            functools.partial(open_loop, env),
            jnp.asarray(random_actions(envs, steps)),
        )
    else:
        decisions = max(steps // chooser.execute, 1)
        steps = decisions * chooser.execute
        program = functools.partial(closed_loop, env, chooser)
        inputs = jax.random.split(jax.random.key(0), decisions)
    begin = time.perf_counter()
    compiled = jax.jit(program).lower(states, inputs).compile()
    compile_seconds = time.perf_counter() - begin
    jax.block_until_ready(compiled(states, inputs))
    mean = repeat_for(seconds, lambda: jax.block_until_ready(compiled(states, inputs)))
    name = "random" if chooser is None else "policy"
    return Row("arp_jax", kind, name, envs, envs * steps / mean, compile_seconds)


def step_gym(kind: str, seconds: float, barrier: Any = None, results: Any = None) -> float:
    """Env-steps/s of one gym-pusht environment in this process (also a process's entry point)."""
    env = make_gym_env(GYM_OBSERVATIONS[kind]).unwrapped
    actions = random_actions(1, geometry.MAX_EPISODE_STEPS)[:, 0].astype(np.float64)
    initial = legacy_initial_conditions([FIRST_SEED])[0].astype(np.float64)

    def reset() -> None:
        env.reset(options={"reset_to_state": initial})

    reset()
    for action in actions[:20]:
        env.step(action)
    if barrier is not None:
        barrier.wait()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        if count % len(actions) == 0:
            reset()
        env.step(actions[count % len(actions)])
        count += 1
    rate = count / (time.perf_counter() - begin)
    if results is not None:
        results.put(rate)
    return rate


def measure_gym(kind: str, processes: int, seconds: float) -> Row:
    """Env-steps/s of gym-pusht, summed over independent processes without any communication.

    That is the most that a vector environment could reach: it pays for pipes besides.
    """
    if processes == 1:
        rate = step_gym(kind, seconds)
    else:
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(processes), context.Queue()
        workers = [
            context.Process(target=step_gym, args=(kind, seconds, barrier, results))
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        rate = sum(results.get(timeout=seconds + 120.0) for _ in workers)
        for worker in workers:
            worker.join()
    return Row("gym-pusht", kind, "random", processes, rate, 0.0)


def load_chooser(run: Path, execute: int) -> tuple[Chooser, tuple[str, ...], str]:
    """The policy of a run directory, its observation names, and the kind of its rows."""
    from arp_jax.control.chunking import executed_actions
    from arp_jax.policies.base import make_physical_act
    from arp_jax.training.checkpoint import load_run

    loaded = load_run(run)
    physical = make_physical_act(loaded.policy, loaded.normalizer)

    def act(history: Observation, key: jax.Array) -> jax.Array:
        return executed_actions(physical(loaded.params, history, key), loaded.spec, execute)

    names = loaded.spec.observation.names
    return (
        Chooser(act, loaded.spec.window, execute),
        names,
        "image" if "image" in names else "state",
    )


def print_row(row: Row, best_gym: dict[str, float]) -> None:
    """One line, with the ratio to the faster gym-pusht figure of the same observation."""
    ratio = (
        row.steps_per_second / best_gym[row.observation] if row.observation in best_gym else None
    )
    unit = "processes" if row.simulator == "gym-pusht" else "envs"
    print(
        f"{row.simulator:<10} {row.observation:<6} {row.policy:<7} {row.envs:>5} {unit:<9} "
        f"{row.steps_per_second:>12,.0f} env-steps/s"
        + (f"  {ratio:>6.1f} x" if ratio is not None else "")
        + (f"  (compile {row.compile_seconds:.1f} s)" if row.compile_seconds else ""),
        flush=True,
    )


def main() -> None:
    """Measures, prints a line per row, and writes JSON when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--envs", default="1,64,256,1024", help="numbers of environments of ours")
    parser.add_argument("--seconds", type=float, default=3.0, help="measuring time of each row")
    parser.add_argument("--run", type=Path, help="run directory whose policy is put in the loop")
    parser.add_argument("--execute", type=int, default=8, help="actions executed per prediction")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    try:
        envs = [int(value) for value in args.envs.split(",")]
    except ValueError:
        parser.error(f"--envs {args.envs!r} is not a list of integers such as 1,64,256,1024")

    machine = hardware(PACKAGES)
    print(json.dumps(machine))
    rows: list[Row] = []
    best_gym: dict[str, float] = {}

    def add(row: Row) -> None:
        rows.append(row)
        if row.simulator == "gym-pusht":
            best_gym[row.observation] = max(
                best_gym.get(row.observation, 0.0), row.steps_per_second
            )
        print_row(row, best_gym)

    for kind in OBSERVATIONS:
        for processes in (1, 2):
            add(measure_gym(kind, processes, args.seconds))
    for kind in OBSERVATIONS:
        for count in envs:
            add(measure_ours(kind, count, args.seconds))
    if args.run is not None:
        chooser, names, kind = load_chooser(args.run, args.execute)
        for count in envs:
            add(measure_ours(kind, count, args.seconds, chooser, names))
    if args.json is not None:
        write_report(args.json, machine, rows)


if __name__ == "__main__":
    main()

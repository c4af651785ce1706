"""Every MuJoCo task in every engine: does it compile, how fast is it, do the engines agree?

Prints a row a task and engine: seconds to compile, environment steps per second at several numbers
of environments, the expert's success (native engine, with its Wilson 95 % interval), and how far
the engine ends up from the native one when both replay the same expert actions: the largest
displacement of any free body over the first 50 control steps, the one at the end of the episode,
and whether the same episodes succeed. One step is one control step; its physics steps are printed.
Examples:

    python benchmarks/sim_check.py                                     # everything, an hour
    python benchmarks/sim_check.py --tasks transfer_cube,insertion --engines native --json out.json
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hardware import hardware, write_report

from arp_jax.evaluation.intervals import wilson
from arp_jax.sim import compiler
from arp_jax.sim.env import State
from arp_jax.sim.expert_episodes import Episode, ExpertRunner, TryConfig, stack_actions
from arp_jax.sim.mjx import MjxEnv
from arp_jax.sim.native import NativeEnv
from arp_jax.sim.task import Task
from arp_jax.sim.tasks import TASKS, make_expert, make_task

ENGINES = ("native", "mjx", "mjx-warp")
PACKAGES = ("jax", "jaxlib", "numpy", "mujoco", "mujoco-mjx", "warp-lang")
COMPARED = 64  # environments in which engines are compared
EARLY = 50  # control steps of the first deviation
CHUNK, MARGIN = 5, 5  # control steps in one call of MJX, and after the longest episode


class Replay(NamedTuple):
    """Expert actions [T, E, A] from initial conditions [E, K], and where bodies went.

    `xpos` is float32 [T, E, nbody, 3] m, `solved` bool [E].
    """

    initial: np.ndarray
    actions: np.ndarray
    xpos: np.ndarray
    solved: np.ndarray


class Row(NamedTuple):
    """One task in one engine."""

    task: str
    engine: str
    physics_steps: int
    compile_seconds: float
    steps_per_second: dict[int, float]
    expert_success: float | None
    expert_interval: tuple[float, float] | None
    expert_episodes: int
    early_deviation_mm: float | None
    deviation_mm: float | None
    same_success: float | None


def expert_tries(task: Task, count: int) -> list[Episode]:
    """At least `count` tries of the task's expert, in the native engine, each to its end."""
    config = TryConfig(seed=1, envs=COMPARED)
    runner = ExpertRunner(task, make_expert(task.name), config)
    batches = -(-count // COMPARED)
    return [episode for number in range(batches) for episode in runner.batch(number)]


def stacked_actions(episodes: Sequence[Episode]) -> np.ndarray:
    """Actions [T, E, A]; an episode that ended repeats its last action.

    T is the longest episode's length and a few steps more: another engine may succeed a step later.
    """
    length = max(len(e.action) for e in episodes) + MARGIN
    length += -length % CHUNK
    return stack_actions(episodes, length)


def native_replay(task: Task, episodes: Sequence[Episode]) -> tuple[Replay, float]:
    """Replays E episodes natively; returns it with its environment steps per second."""
    env = NativeEnv(task, len(episodes))
    initial = np.stack([e.initial for e in episodes])
    actions = stacked_actions(episodes)
    env.reset(initial)
    env.step(actions[0])  # compiles
    env.reset(initial)
    solved = np.zeros(len(episodes), bool)
    begin = time.perf_counter()
    frames = []
    for action in actions:
        state = env.step(action)
        solved |= np.asarray(state.done)
        frames.append(positions(task, state))
    rate = actions.shape[0] * actions.shape[1] / (time.perf_counter() - begin)
    return Replay(initial, actions, np.stack(frames), solved), rate


def positions(task: Task, state: State) -> np.ndarray:
    """Positions of the free bodies, float32 [E, N, 3] m: they are what a task is about.

    Without one, the first three joints in rad: a deviation of 1 "mm" is then a milliradian.
    """
    model = task.load_model()
    free = model.jnt_qposadr[model.jnt_type == 0]
    qpos = np.asarray(state.physics.readings["qpos"])
    if free.size == 0:
        return qpos[:, None, :3]
    return np.stack([qpos[:, start : start + 3] for start in free], 1)


def native_rate(task: Task, replay: Replay, envs: int, seconds: float) -> tuple[float, float]:
    """Environment steps per second of `envs` simulations, and seconds until the first step."""
    begin = time.perf_counter()
    env = NativeEnv(task, envs)
    rows = np.arange(envs) % replay.actions.shape[1]
    env.reset(replay.initial[rows])
    env.step(replay.actions[0, rows])
    compile_seconds = time.perf_counter() - begin
    env.reset(replay.initial[rows])
    begin, steps = time.perf_counter(), 0
    while steps < len(replay.actions) and (steps < 2 or time.perf_counter() - begin < seconds):
        env.step(replay.actions[steps, rows])
        steps += 1
    return envs * steps / (time.perf_counter() - begin), compile_seconds


class MjxProgram:
    """The compiled `chunk` control steps of E environments."""

    def __init__(self, task: Task, impl: str, envs: int, chunk: int) -> None:
        self.env, self.chunk = MjxEnv(task, impl, worlds=envs), chunk
        begin = time.perf_counter()
        initial = jnp.zeros((envs, *self.env.initial_condition(jax.random.key(0)).shape))
        self.reset = self._jit(jax.vmap(self.env.reset_to)).lower(initial).compile()
        states = jax.eval_shape(jax.vmap(self.env.reset_to), initial)
        actions = jnp.zeros((chunk, envs, task.action_spec.size))
        self.advance = self._jit(self._advance).lower(states, actions).compile()
        self.compile_seconds = time.perf_counter() - begin

    def _jit(self, function: Callable[..., Any]) -> Any:
        return jax.jit(function, compiler_options=compiler.options())

    def _advance(self, states: State, actions: jax.Array) -> tuple[State, Any]:
        def body(states: State, action: jax.Array) -> tuple[State, Any]:
            states = jax.vmap(self.env.step)(states, action)
            return states, (states.physics.readings["qpos"], states.done)

        return jax.lax.scan(body, states, actions)


def mjx_replay(task: Task, program: MjxProgram, replay: Replay) -> tuple[np.ndarray, Any, float]:
    """Displacement of every body against the native replay [T, E] m, successes, rate."""
    states = program.reset(jnp.asarray(replay.initial))
    jax.block_until_ready(program.advance(states, jnp.asarray(replay.actions[: program.chunk])))
    solved = np.zeros(replay.solved.shape, bool)
    apart, seconds = [], 0.0
    for start in range(0, len(replay.actions) - program.chunk + 1, program.chunk):
        actions = jnp.asarray(replay.actions[start : start + program.chunk])
        begin = time.perf_counter()
        states, (qpos, done) = jax.block_until_ready(program.advance(states, actions))
        seconds += time.perf_counter() - begin
        solved |= np.asarray(done).any(0)
        for offset, row in enumerate(np.asarray(qpos)):
            fake = states.replace(physics=states.physics.replace(readings={"qpos": row}))
            far = positions(task, fake) - replay.xpos[start + offset]
            apart.append(np.linalg.norm(far, axis=-1).max(-1))  # [E]
    rate = len(apart) * solved.size / seconds
    return np.stack(apart), solved, rate


def mjx_rate(task: Task, program: MjxProgram, replay: Replay, envs: int, seconds: float) -> float:
    """Environment steps per second of `envs` environments under vmap."""
    rows = np.arange(envs) % replay.actions.shape[1]
    states = program.reset(jnp.asarray(replay.initial[rows]))
    actions = jnp.asarray(replay.actions[: program.chunk, rows])
    states, _ = jax.block_until_ready(program.advance(states, actions))
    begin, calls = time.perf_counter(), 0
    while calls < 1 or time.perf_counter() - begin < seconds:
        states, _ = jax.block_until_ready(program.advance(states, actions))
        calls += 1
    return calls * program.chunk * envs / (time.perf_counter() - begin)


def check_native(task: Task, args: argparse.Namespace) -> tuple[Row, Replay]:
    """The native row of a task, and the replay that other engines are compared with."""
    episodes = expert_tries(task, args.episodes)
    success = wilson(np.array([e.success for e in episodes]))
    replay, _ = native_replay(task, episodes[:COMPARED])
    rates, compile_seconds = {}, 0.0
    for envs in args.envs:
        rates[envs], first = native_rate(task, replay, envs, args.seconds)
        compile_seconds = max(compile_seconds, first)
    interval = (success.low, success.high)
    return Row(
        task.name,
        "native",
        task.physics_steps,
        compile_seconds,
        rates,
        success.value,
        interval,
        len(episodes),
        None,
        None,
        None,
    ), replay


def check_mjx(task: Task, engine: str, replay: Replay, args: argparse.Namespace) -> Row:
    """The row of one MJX engine."""
    impl = "warp" if engine == "mjx-warp" else "jax"
    # Key-frame tasks take seconds of physics a step: one step a call is enough.
    chunk = 1 if task.physics_steps > 50 else CHUNK
    rates: dict[int, float] = {}
    program = MjxProgram(task, impl, COMPARED, chunk)
    compile_seconds = program.compile_seconds
    apart, solved, rates[COMPARED] = mjx_replay(task, program, replay)
    for envs in args.envs:
        if envs != COMPARED:
            program = MjxProgram(task, impl, envs, chunk)
            rates[envs] = mjx_rate(task, program, replay, envs, args.seconds)
    return Row(
        task.name,
        engine,
        task.physics_steps,
        compile_seconds,
        dict(sorted(rates.items())),
        None,
        None,
        0,
        1e3 * float(apart[:EARLY].max()),
        1e3 * float(apart[-1].max()),
        float((solved == replay.solved).mean()),
    )


def print_row(row: Row) -> None:
    """One line a row."""
    rates = "  ".join(f"{envs}: {rate:,.0f}" for envs, rate in row.steps_per_second.items())
    text = f"{row.task:<20} {row.engine:<9} {row.physics_steps:>4}  {row.compile_seconds:>5.1f} s"
    text += f"  steps/s {rates:<44}"
    if row.expert_success is not None and row.expert_interval is not None:
        low, high = row.expert_interval
        text += f"  expert {100 * row.expert_success:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        text += f" n={row.expert_episodes}"
    if row.deviation_mm is not None:
        text += f"  apart {row.early_deviation_mm:.2f} / {row.deviation_mm:.2f} mm"
        text += f"  same success {100 * row.same_success:.0f} %"
    print(text, flush=True)


def main() -> None:
    """Checks every chosen task in every chosen engine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated")
    parser.add_argument("--engines", default="native,mjx", help=f"out of {','.join(ENGINES)}")
    parser.add_argument("--envs", default="1,64,512", help="numbers of environments")
    parser.add_argument("--episodes", type=int, default=256, help="expert episodes")
    parser.add_argument("--seconds", type=float, default=3.0, help="measuring time of each figure")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    args.envs = [int(value) for value in args.envs.split(",")]
    engines = args.engines.split(",")
    unknown = [e for e in engines if e not in ENGINES]
    if unknown:
        parser.error(f"--engines: {unknown[0]!r} is none of {', '.join(ENGINES)}")
    machine = hardware(PACKAGES)
    print(json.dumps(machine))
    print("task                 engine   physics steps, compile, environment steps/s, ...")
    rows = []
    for name in args.tasks.split(","):
        task = make_task(name)
        row, replay = check_native(task, args)
        found = [row] if "native" in engines else []
        print_row(row)
        for engine in engines:
            if engine != "native":
                found.append(check_mjx(task, engine, replay, args))
                print_row(found[-1])
        rows += found
        if args.json is not None:
            write_report(args.json, machine, rows)


if __name__ == "__main__":
    main()

"""How many steps per second of the bimanual tasks, beside gym-aloha on the same machine?

gym-aloha (dm_control) runs in 1 and in 2 independent processes, without drawing its pictures and
without any communication. Ours runs E simulations in the native engine, and in MJX where asked. All
replay the same expert actions from the same starts. A control step is 0.02 s: gym-aloha makes 10
physics steps of 2 ms, our scenes 5 of 4 ms; rows "native/10" are our scene at 2 ms, too, so that
physics steps are equal. Examples (3 minutes on 2 cores; the second on a GPU):

    python benchmarks/sim.py --json out.json
    python benchmarks/sim.py --tasks transfer_cube,mycobot_reach --engines mjx --no-peer \\
        --envs 1,64,1024,4096,8192 --json out.json
"""

import argparse
import copy
import dataclasses
import functools
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np
from hardware import hardware, write_report
from sim_check import (
    COMPARED,
    MjxProgram,
    Replay,
    expert_tries,
    mjx_rate,
    native_rate,
    stacked_actions,
)

from arp_jax.sim.task import Task
from arp_jax.sim.tasks import make_task

PACKAGES = ("jax", "jaxlib", "mujoco", "mujoco-mjx", "warp-lang", "gym-aloha", "dm_control")
PEERS = {
    "transfer_cube": "gym_aloha/AlohaTransferCube-v0",
    "insertion": "gym_aloha/AlohaInsertion-v0",
}
ENGINES = ("native", "native/10", "mjx", "mjx-warp")
FINE_SUBSTEPS = 10


class Row(NamedTuple):
    """One measurement; `envs` are processes for gym-aloha, `ratio` is to its best figure."""

    task: str
    simulator: str
    envs: int
    physics_steps: int
    steps_per_second: float
    compile_seconds: float
    ratio: float | None


@functools.cache
def fine_task(name: str) -> Task:
    """The task with ten physics steps a control step."""
    task = make_task(name)

    @functools.cache
    def load_model() -> mujoco.MjModel:
        model = copy.copy(task.load_model())
        model.opt.timestep *= task.substeps / FINE_SUBSTEPS
        return model

    return dataclasses.replace(task, load_model=load_model, substeps=FINE_SUBSTEPS)


def step_peer(
    task: str, replay: Replay, seconds: float, barrier: Any = None, results: Any = None
) -> float:
    """Control steps per second of one gym-aloha environment (also a process's entry point).

    Its own environment object is stepped, below the wrapper that computes our features.
    """
    from arp_jax.sim.gym_aloha_env import GymAloha

    env = GymAloha(PEERS[task])
    control = env._control
    actions = np.asarray(replay.actions[:, 0], np.float64)
    env.reset_to(replay.initial[0])
    for action in actions[:20]:
        control.step(action)
    env.reset_to(replay.initial[0])
    if barrier is not None:
        barrier.wait()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        # Its episode ends by itself after 20 s, and with the task; then it starts again.
        if control.step(actions[count % len(actions)]).last():
            env.reset_to(replay.initial[0])
        count += 1
    rate = count / (time.perf_counter() - begin)
    if results is not None:
        results.put(rate)
    return rate


def measure_peer(task: str, replay: Replay, processes: int, seconds: float) -> Row:
    """gym-aloha, summed over independent processes: the most a vector environment could reach."""
    if processes == 1:
        rate = step_peer(task, replay, seconds)
    else:
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(processes), context.Queue()
        workers = [
            context.Process(target=step_peer, args=(task, replay, seconds, barrier, results))
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        rate = sum(results.get(timeout=seconds + 300.0) for _ in workers)
        for worker in workers:
            worker.join()
    return Row(task, "gym-aloha", processes, FINE_SUBSTEPS, rate, 0.0, None)


def measure_ours(name: str, engine: str, replay: Replay, envs: int, seconds: float) -> Row:
    """One engine at one number of environments."""
    task = fine_task(name) if engine == "native/10" else make_task(name)
    if engine.startswith("native"):
        rate, compile_seconds = native_rate(task, replay, envs, seconds)
    else:
        program = MjxProgram(task, "warp" if engine == "mjx-warp" else "jax", envs, chunk=5)
        rate = mjx_rate(task, program, replay, envs, seconds)
        compile_seconds = program.compile_seconds
    return Row(name, engine, envs, task.physics_steps, rate, compile_seconds, None)


def print_row(row: Row) -> None:
    """One line a row; physics steps a second are control steps times physics steps."""
    unit = "processes" if row.simulator == "gym-aloha" else "envs"
    physics = row.steps_per_second * row.physics_steps
    text = f"{row.task:<16} {row.simulator:<10} {row.envs:>5} {unit:<9} "
    text += f"{row.steps_per_second:>10,.0f} env-steps/s  {physics:>12,.0f} physics steps/s"
    if row.ratio is not None:
        text += f"  {row.ratio:>5.1f} x"
    if row.compile_seconds:
        text += f"  (first step after {row.compile_seconds:.1f} s)"
    print(text, flush=True)


def expert_replay(name: str) -> Replay:
    """Expert actions and starts of `COMPARED` episodes."""
    episodes = expert_tries(make_task(name), COMPARED)[:COMPARED]
    empty = np.zeros(0, np.float32)
    initial = np.stack([e.initial for e in episodes])
    return Replay(initial, stacked_actions(episodes), empty, empty)


def main() -> None:
    """Measures, prints a line per row, and writes JSON when asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tasks", default="transfer_cube,insertion", help="comma-separated")
    parser.add_argument("--engines", default="native,native/10", help=f"out of {ENGINES}")
    parser.add_argument("--envs", default="1,64,512", help="numbers of environments of ours")
    parser.add_argument("--seconds", type=float, default=5.0, help="measuring time of each row")
    parser.add_argument("--no-peer", action="store_true", help="leave gym-aloha out")
    parser.add_argument("--json", type=Path, help="file for the results")
    args = parser.parse_args()
    unknown = [e for e in args.engines.split(",") if e not in ENGINES]
    if unknown:
        parser.error(f"--engines: {unknown[0]!r} is none of {', '.join(ENGINES)}")

    machine = hardware(PACKAGES)
    print(json.dumps(machine))
    rows: list[Row] = []
    for name in args.tasks.split(","):
        replay, best = expert_replay(name), 0.0
        for processes in () if args.no_peer or name not in PEERS else (1, 2):
            rows.append(measure_peer(name, replay, processes, args.seconds))
            best = max(best, rows[-1].steps_per_second)
            print_row(rows[-1])
        for engine in args.engines.split(","):
            for envs in (int(value) for value in args.envs.split(",")):
                row = measure_ours(name, engine, replay, envs, args.seconds)
                row = row._replace(ratio=row.steps_per_second / best if best else None)
                rows.append(row)
                print_row(row)
        if args.json is not None:
            write_report(args.json, machine, rows)


if __name__ == "__main__":
    main()

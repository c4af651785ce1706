"""Demonstrations become a policy: the training script, read top to bottom.

    python -m arp_jax.train --config=configs/debug.py
    python -m arp_jax.train --config=configs/debug.py --workdir=runs/debug --resume

A config file, its overrides (--config.train.steps=100) and a run directory flow in (runs/debug when
none is given); config.json, run.json, README.txt, metrics.jsonl, checkpoints/ and, where the config
asks for one, report/ in it flow out. Exit status: 0 done, 75 stopped
by SIGTERM or SIGINT after saving (start again with --resume), 1 a loss or gradient was not finite,
2 wrong usage.
"""

import dataclasses
import functools
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from jax.experimental import multihost_utils
from ml_collections import config_flags

from arp_jax import compile_cache
from arp_jax.data.augment import make_augment
from arp_jax.data.prefetch import prefetch
from arp_jax.policies.base import Batch, Metrics, Params, Policy, build_policy
from arp_jax.training import data_report, preemption, run_dir, sharding
from arp_jax.training.checkpoint import CheckpointStore, RunBundle, newest_bundle
from arp_jax.training.command_line import check_only_flags, exit_status, parse_flags
from arp_jax.training.data_config import DIGITS, SYNTHETIC
from arp_jax.training.finish import check_finish, finish_policy
from arp_jax.training.inputs import Inputs, check_same_data, open_inputs
from arp_jax.training.metrics import MetricBuffer, MetricWriter, NonFiniteMetric
from arp_jax.training.optim import make_optimizer, make_schedule
from arp_jax.training.progress import Progress
from arp_jax.training.run_config import RunConfig
from arp_jax.training.state import TrainState, init_state, make_loss_fn, make_update_fn
from arp_jax.training.validation import held_out_batches, mean_metrics

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Run directory; runs/NAME of configs/NAME.py.")
RESUME = flags.DEFINE_bool("resume", False, "Continue the run in --workdir.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Remove the run in --workdir, then start anew.")
TRACEBACK = flags.DEFINE_bool("traceback", False, "Show the traceback of wrong usage.")

# Steps that may be queued on the device: enough to hide the host, few enough to bound memory.
IN_FLIGHT = 2


@dataclasses.dataclass
class Run:
    """What the loop needs; everything but `state` stays as it was built."""

    config: RunConfig
    folder: Path
    inputs: Inputs
    policy: Policy
    place: Callable[[Batch], Batch]
    store: CheckpointStore
    writer: MetricWriter
    progress: Progress
    update: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    loss_fn: Callable[..., Metrics]
    state: TrainState


def train(config: RunConfig, folder: Path, resume: bool, overwrite: bool) -> int:
    """The whole run; returns the exit status."""
    # 1. Run directory: nothing of another run is touched
    sharding.initialize_distributed()
    first = jax.process_index() == 0
    if first:
        prepare_folder(config, folder, resume, overwrite)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("run directory")
    say = functools.partial(print, flush=True) if first else lambda *_: None

    # 2. Devices
    cache = compile_cache.enable()
    mesh = sharding.make_mesh(**config.mesh)
    sharding.check_batch_size(config.train.batch_size, mesh)
    say(f"run: {folder}\ndevices: {sharding.describe(mesh)}")

    # 3. Data: packed or streamed, its statistics, batches of training and held-out episodes
    kept = newest_bundle(folder) if resume else None
    inputs = open_inputs(config.plain, config.data, folder, kept.normalizer if kept else None)
    say(data_report.describe(inputs, config.plain))

    # 4. Policy and optimiser
    policy = build_policy(config.policy["name"], config.policy, inputs.spec, config.images)
    check_finish(policy, inputs)
    tx = make_optimizer(config.optim, config.train.steps)

    # 5. State: its shapes give the shardings; then fresh or restored. From here on RUN is a run
    store = CheckpointStore(folder, config.train.keep, config.train.keep_every)
    state, shardings = make_state(policy, tx, config, mesh, inputs, store, resume)
    start = int(state.step)
    if first:
        run_dir.write_run_files(folder, config.plain, resume)
    if resumption := data_report.resumption(inputs, start):
        say(resumption)
    say(f"parameters: {sum(x.size for x in jax.tree.leaves(state.params)):,}, at step {start}")
    if start >= config.train.steps:
        store.close()
        say(f"nothing to do: raise config.train.steps above {start} to train on")
        return report(config, folder, inputs, policy, state)

    # 6. Update: one program, compiled before the clock starts
    schedule = make_schedule(config.optim, config.train.steps)
    augment = make_augment(config.data.augment, inputs.normalizer) if config.data.augment else None
    jitted = make_update_fn(policy, tx, config.train.update, schedule, augment, shardings)

    def place(batch: Batch) -> Batch:
        return sharding.shard_batch(batch, mesh)

    began = time.perf_counter()
    update = jitted.lower(state, place(inputs.train.sample())).compile()
    compile_s = time.perf_counter() - began
    say(f"compiled the update in {compile_s:.1f} s (cache: {cache})")

    # 7. Loop
    writer = MetricWriter(folder, config.metrics, resume_step=start)
    writer.write(start, "start", {"compile_s": compile_s, "devices": mesh.size})
    progress = Progress(start, config.train.steps, config.train.batch_size, visible=first)
    run = Run(
        *(config, folder, inputs, policy, place, store, writer, progress, update),
        loss_fn=make_loss_fn(policy),
        state=state,
    )
    try:
        with preemption.Preemption() as stop:
            status = loop(run, start, stop) or save_last(run)
    except NonFiniteMetric as error:
        status = stop_non_finite(run, error)
    finally:
        # 8. Finish: what was saved is complete before the process ends
        progress.close()
        store.close()
        writer.close()
    return status or report(config, folder, inputs, policy, run.state)


def loop(run: Run, start: int, stop: preemption.Preemption) -> int:
    """Steps `start`..`steps`; returns the exit status."""
    config, progress = run.config.train, run.progress
    buffer, in_flight = MetricBuffer(), deque[Any]()
    held_out = held_out_batches(run.inputs, config.batch_size, config.eval_batches)
    stream = run.inputs.train.starting_at(start)
    with prefetch(stream, run.config.data.prefetch, run.place) as batches:
        progress.interval(start)
        for step in range(start + 1, config.steps + 1):
            with progress.waiting():
                batch = next(batches)
            run.state, metrics = run.update(run.state, batch)
            buffer.add(step, metrics)
            in_flight.append(metrics["loss"])
            if len(in_flight) > IN_FLIGHT:
                in_flight.popleft().block_until_ready()
            progress.advance()

            last = step == config.steps
            stopping = stop.requested(step) and not last
            saving = (step % config.save_every == 0 or stopping) and not last
            if step % config.log_every == 0 or saving or last:
                rates = progress.interval(step)
                buffer.close_interval(rates)
                # A checkpoint of a diverged state would be useless: look at every step before.
                log(run, buffer, step, rates, lag=0 if saving or last else 1)
            if held_out and config.eval_every and step % config.eval_every == 0:
                with progress.pause():
                    validate(run, held_out, step)
            if saving:
                with progress.pause():
                    save(run, step)
            if stopping:
                run.store.wait()
                progress.say(f"{stop.signal_name}: saved step {step}; continue with --resume")
                return preemption.EXIT_CODE
    return 0


def prepare_folder(config: RunConfig, folder: Path, resume: bool, overwrite: bool) -> None:
    """Checks the run directory, clears it when asked, writes a built-in dataset when asked."""
    run_dir.check_start(folder, resume, overwrite)
    if resume:
        run_dir.check_same_config(run_dir.read_config(folder), config.plain, folder)
    elif overwrite:
        run_dir.clear(folder)
    if config.data.source == SYNTHETIC:
        from arp_jax.data.synthetic import write_synthetic
        from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC

        observation = OBSERVATION_SPEC.select(config.plain["observations"])
        write_synthetic(folder, observation, ACTION_SPEC)
    elif config.data.source == DIGITS:
        from arp_jax.data.digits import write_digits

        write_digits(folder, config.plain["horizon"])


def make_state(
    policy: Any,
    tx: Any,
    config: RunConfig,
    mesh: Any,
    inputs: Inputs,
    store: CheckpointStore,
    resume: bool,
) -> tuple[TrainState, Any]:
    """The state with its shardings: restored from the newest checkpoint, or fresh."""

    def fresh(rng: jax.Array) -> TrainState:
        return init_state(policy, tx, rng)

    rng = jax.random.PRNGKey(config.seed)
    shapes = jax.eval_shape(fresh, rng)
    shardings = sharding.state_sharding(shapes, mesh)
    step = store.latest_step() if resume else None
    if step is None:
        return jax.jit(fresh, out_shardings=shardings)(rng), shardings
    bundle, data = store.read_bundle(step)
    check_same_data(inputs, bundle.spec, data["pack"], step)
    return store.restore(step, sharding.with_sharding(shapes, shardings)), shardings


def log(run: Run, buffer: MetricBuffer, step: int, rates: dict[str, float], lag: int) -> None:
    """Writes the intervals that are due and refreshes the progress line."""
    loss = None
    for at, values in buffer.fetch(lag):
        run.writer.write(at, "train", values)
        loss = values["loss"]
    run.progress.show(step, rates, loss)


def validate(run: Run, held_out: list[Batch], step: int) -> None:
    """Loss of the averaged parameters on held-out episodes, without dropout."""
    means = mean_metrics(run.loss_fn, run.state.ema, held_out, run.place)
    run.writer.write(step, "validation", means)
    run.progress.say(f"step {step}: validation loss {means['loss']:.4f}")


def save_last(run: Run) -> int:
    """The last checkpoint, of a finished policy if it wants finishing; returns the exit status.

    Not within the loop: finishing reads the data, and one thread at a time may.
    """
    config = run.config.train
    average, size = run.state.ema, config.batch_size
    finished = finish_policy(run.policy, average, run.inputs, size, run.folder)
    if finished is not None:
        run.progress.say(f"{run.config.policy['name']}: {finished[1]}")
    save(run, config.steps, None if finished is None else finished[0])
    run.progress.say(f"done: step {config.steps}, checkpoints in {run.store.folder}")
    return 0


def save(run: Run, step: int, finished: Params | None = None) -> None:
    """Starts writing a checkpoint in the background."""
    inputs = run.inputs
    bundle = RunBundle(run.config.plain, inputs.spec, inputs.stats, inputs.normalizer)
    position = {"batches": step, "pack": inputs.content_hash}
    stall = run.store.save(step, run.state, position, bundle, finished)
    run.writer.write(step, "checkpoint", {"stall_s": stall})


def report(config: RunConfig, folder: Path, inputs: Inputs, policy: Any, state: TrainState) -> int:
    """Writes RUN/report when the config names one; returns the exit status."""
    if config.report == DIGITS:
        from arp_jax.evaluation.digits_report import report_digits

        params = multihost_utils.process_allgather(state.ema, tiled=True)
        if jax.process_index() == 0:
            assert inputs.pack is not None  # RunConfig.resolve asks for one
            episodes = (inputs.pack, inputs.train_episodes, inputs.validation_episodes)
            out = folder / "report"
            report_digits(out, policy, params, inputs.normalizer, *episodes, config.seed)
    return 0


def stop_non_finite(run: Run, error: NonFiniteMetric) -> int:
    """Saves the batch that did it, where the data can be read again; returns the exit status."""
    batch = run.inputs.train.batch_at(error.step - 1)
    run.writer.write(error.step, "non_finite", {"process": jax.process_index()})
    where = "gone with the stream"
    if batch is not None:
        process = f"_process_{jax.process_index()}" if jax.process_count() > 1 else ""
        path = run.folder / f"non_finite_step_{error.step}{process}.npz"
        np.savez(path, **run_dir.flatten(batch))
        where = str(path)
    good = f"the last good checkpoint is in {run.store.folder}"
    print(f"error: {error}; its batch is {where}, {good}")
    return 1


def run_command(argv: list[str]) -> int:
    """Checks the command line and trains; returns the exit status."""
    check_only_flags(argv)
    if not CONFIG.value:
        raise ValueError("give --config=configs/NAME.py")
    config = RunConfig.resolve(CONFIG.value.to_dict())
    config_file = config_flags.get_config_filename(flags.FLAGS[CONFIG.name])
    folder = run_dir.choose_folder(WORKDIR.value, config_file)
    return train(config, folder, RESUME.value, OVERWRITE.value)


def main(argv: list[str]) -> None:
    """Runs the command and exits with its status (2 for wrong usage, in one line)."""
    logging.set_verbosity(logging.WARNING)
    status = exit_status(lambda: run_command(argv), TRACEBACK.value)
    sys.stdout.flush()
    sys.exit(status)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)

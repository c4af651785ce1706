"""Reading is killed at random moments: the batches are those of a run that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arp_jax.data.pack import pack_dataset
from arp_jax.data.synthetic import write_synthetic
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from tests.data.read_batches import lines
from tests.data.rlds_folder import synthetic_episodes, write_folder
from tests.training import tiny_config
from tests.training.tiny_run import assert_same_run, tiny_setting

__all__ = ["tiny_setting"]  # the tiny policy in the place of the real ones

HERE = Path(__file__).parent
BATCHES = 120
STEPS = 300


def run_until(command, log, count, environment=None):
    """Starts a command and kills it once its log has `count` lines; None lets it end."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    while count is not None and len(lines(log)) < count and process.poll() is None:
        time.sleep(0.0005)
    if count is not None:
        process.send_signal(signal.SIGKILL)
    _, error = process.communicate(timeout=300)
    assert process.returncode == (0 if count is None else -signal.SIGKILL), error.decode()


def test_a_loader_killed_three_times_gives_the_same_batches(tmp_path):
    source = write_folder(
        tmp_path / "toy", synthetic_episodes([30] * 8, size=32), image_format="jpeg"
    )
    pack_dataset(source, tmp_path / "pack", progress=False).close()

    def command(log):
        script = str(HERE / "read_batches.py")
        return [sys.executable, script, str(tmp_path / "pack"), str(log), str(BATCHES)]

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run_until(command(straight), straight, None)
    for count in sorted(random.Random(0).sample(range(1, BATCHES - 20), 3)):
        run_until(command(killed), killed, count)
    run_until(command(killed), killed, None)
    assert len(lines(straight)) == BATCHES
    assert lines(killed) == lines(straight)


@pytest.mark.slow
def test_training_killed_ten_times_sees_the_same_batches(tmp_path):
    observation = OBSERVATION_SPEC.select(["agent_pos", "block_pose"])
    source = write_synthetic(tmp_path / "data", observation, ACTION_SPEC)
    pack_dataset(source, tmp_path / "pack", progress=False).close()

    def start(name, count):
        log, folder = tmp_path / f"{name}.log", tmp_path / name
        command = [
            *(sys.executable, str(HERE / "train_noting.py"), f"--config={tiny_config.__file__}"),
            *(f"--workdir={folder}", f"--resume={folder.exists()}"),
            *(f"--config.data.source={tmp_path / 'pack'}", f"--config.train.steps={STEPS}"),
            *("--config.train.save_every=20", "--config.train.eval_every=20"),
        ]
        run_until(command, log, count, {**os.environ, "BATCH_LOG": str(log)})
        return lines(log)

    expected = start("straight", None)
    rng = random.Random(0)
    for _ in range(10):
        done = len(lines(tmp_path / "killed.log"))
        found = start("killed", done + rng.randrange(3, 60))
    found = start("killed", None)
    size = STEPS * tiny_config.get_config().train.batch_size

    def trained_on(log):
        # How far the reading ahead gets behind the last step is a matter of time.
        return {line for line in log if int(line.split()[1]) < size}

    assert trained_on(found) == trained_on(expected)
    assert len(found) > len(expected)  # what followed a checkpoint was read a second time
    assert_same_run(tmp_path / "straight", tmp_path / "killed", step=STEPS)

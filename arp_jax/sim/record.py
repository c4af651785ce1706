"""Records demonstrations of a scripted expert: simulate many, keep the successes, draw the kept.

The expert works in the native engine, E simulations side by side on all cores; pictures are drawn
afterwards from the recorded joint positions, in parallel processes. The result depends on the
arguments alone: episode i of a longer recording is episode i of a shorter one.

Examples:
    python -m arp_jax.sim.record --task transfer_cube -n 1000 --out ~/rlds
    python -m arp_jax.sim.record --task transfer_cube -n 50 --observations state,top \\
        --height 240 --width 320 --image_format jpeg --out ~/rlds
    python -m arp_jax.sim.record --task insertion -n 50 --noise 0.01 --format act_hdf5 --out ~/act

RLDS goes to OUT/TASK/1.0.0 (TFDS, ArrayRecord) and appears there when it is complete. act_hdf5
writes OUT/episode_0.hdf5, ...; run again, it goes on where it stopped, and a larger -n adds
episodes. Both folders have build.json (the arguments) and recording.json (tries and successes).
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# The native engine is C on the CPU; a GPU would be held for small programs only.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from arp_jax import compile_cache
from arp_jax.data import episode_rlds, rlds_build
from arp_jax.data.formats import act_hdf5
from arp_jax.data.images import IMAGE_FORMATS, encode_image
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.evaluation.intervals import wilson
from arp_jax.sim import tasks
from arp_jax.sim.expert_episodes import (
    Episode,
    ExpertRunner,
    Tally,
    TryConfig,
    camera_records,
    feature_velocity,
    recorded_episodes,
)
from arp_jax.sim.experts.expert import Expert
from arp_jax.sim.render_pool import Draw, RenderPool
from arp_jax.sim.task import Task
from arp_jax.specs import CameraSpec, ObservationSpec
from arp_jax.training.command_line import exit_status

SUMMARY_FILE = "recording.json"
STATE = "state"  # the feature that is ACT's qpos


@dataclasses.dataclass(frozen=True)
class Recording:
    """What is to be recorded.

    Attributes:
        task, expert: who does what.
        count: episodes to keep.
        config: of the tries.
        observation: features and cameras of a step, with the sizes of the pictures.
        keep_failures: keep all tries instead of the successes.
        image_format: "png" or "jpeg"; in HDF5 files "png" means raw frames.
    """

    task: Task
    expert: Expert
    count: int
    config: TryConfig
    observation: ObservationSpec
    keep_failures: bool = False
    image_format: str = "png"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"-n must be at least 1, found {self.count}")

    @property
    def arguments(self) -> dict[str, Any]:
        """What determines every episode, for build.json."""
        config = dataclasses.asdict(self.config)
        del config["threads"]
        return config | {
            "task": self.task.name,
            "observations": list(self.observation.names),
            "image_sizes": [[c.height, c.width] for c in self.observation.cameras],
            "image_format": self.image_format,
            "keep_failures": self.keep_failures,
        }


def record_rlds(recording: Recording, out: Path) -> Path:
    """Writes OUT/TASK/1.0.0, or finds it finished; returns that folder.

    Raises:
        ValueError: the folder was made with other arguments, or the expert fails.
    """
    task, cameras = recording.task, recording.observation.cameras

    def generate(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        tally = Tally()
        work = functools.partial(_encode_pictures, cameras, recording.image_format)
        episodes = _work_through(recording, work, _episodes(recording, tally))
        for number, (episode, pictures) in enumerate(_bar(recording, tally, episodes)):
            yield number, _example(recording, episode, pictures)
        _write_summary(folder, recording.count, tally)

    def make_builder() -> rlds_build.EpisodeBuilder:
        return rlds_build.EpisodeBuilder(
            name=task.name,
            specs=DatasetSpecs(recording.observation, task.action_spec),
            features=episode_rlds.episode_features(
                recording.observation,
                task.action_spec,
                metadata=_metadata_features(recording),
                reward=_reward_doc(task),
                language=task.instruction is not None,
                image_format=recording.image_format,
            ),
            arguments=recording.arguments | {"episodes": recording.count},
            episodes=generate,
            description=f"A scripted expert at the task {task.name} of arp_jax.",
            data_dir=out,
        )

    return rlds_build.prepare_in_run(out, make_builder)


def record_act(recording: Recording, out: Path) -> Path:
    """Writes OUT/episode_0.hdf5, ... in ACT's layout; files that exist are left as they are.

    All episodes have the task's full length, as ACT's training script wants them.

    Raises:
        ValueError: the task has no feature "state", or the folder was made with other arguments.
    """
    recording.task.observation_spec.feature(STATE)
    config = dataclasses.replace(recording.config, full_length=True)
    recording = dataclasses.replace(recording, config=config)
    arguments = recording.arguments | {"format": "act_hdf5"}
    if (out / rlds_build.BUILD_FILE).exists():
        rlds_build.check_arguments(out, arguments)
    elif any(out.glob("*.hdf5")):
        raise ValueError(f"{out}: has HDF5 files of another origin; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    rlds_build.write_arguments(out, arguments)
    for leftover in out.glob(".episode_*"):  # of a recording that was killed
        leftover.unlink()
    paths = [act_hdf5.episode_path(out, number) for number in range(recording.count)]
    if all(path.exists() for path in paths):
        return out
    tally = Tally()
    items = (
        (path, None if path.exists() else _act_arrays(recording.task, episode), episode)
        for path, episode in zip(paths, _episodes(recording, tally), strict=True)
    )
    compress = recording.image_format == "jpeg"
    work = functools.partial(_write_act, recording.observation.cameras, compress)
    for _ in _bar(recording, tally, _work_through(recording, work, items)):
        pass
    _write_summary(out, recording.count, tally)
    return out


def _episodes(recording: Recording, tally: Tally) -> Iterator[Episode]:
    runner = ExpertRunner(recording.task, recording.expert, recording.config)
    return recorded_episodes(runner, recording.count, recording.keep_failures, tally)


def _work_through(recording: Recording, work: Any, items: Iterator[Any]) -> Iterator[Any]:
    """`work(draw, item)` for each item: in parallel processes where there is something to draw."""
    if not recording.observation.cameras:
        for item in items:
            yield work(None, item)
        return
    with RenderPool(recording.task.load_model(), recording.config.threads) as pool:
        yield from pool.map(work, items)


def _bar(recording: Recording, tally: Tally, results: Iterator[Any]) -> Iterator[Any]:
    with tqdm(total=recording.count, desc=recording.task.name, unit="episode") as bar:
        for result in results:
            yield result
            bar.set_postfix_str(f"{tally.succeeded} of {tally.tried} tries succeeded", False)
            bar.update()


def _encode_pictures(
    cameras: tuple[CameraSpec, ...], image_format: str, draw: Draw, episode: Episode
) -> tuple[Episode, dict[str, list[bytes]]]:
    pictures = {
        camera.name: [
            encode_image(draw(qpos, camera, episode.start), image_format) for qpos in episode.qpos
        ]
        for camera in cameras
    }
    return episode, pictures


def _write_act(
    cameras: tuple[CameraSpec, ...],
    compress: bool,
    draw: Draw,
    item: tuple[Path, dict[str, np.ndarray] | None, Episode],
) -> None:
    path, arrays, episode = item
    if arrays is None:
        return
    images = {
        camera.name: (draw(qpos, camera, episode.start) for qpos in episode.qpos)
        for camera in cameras
    }
    act_hdf5.write_episode(
        path,
        qpos=arrays["qpos"],
        qvel=arrays["qvel"],
        action=arrays["action"],
        images=images,
        compress=compress,
    )


def _act_arrays(task: Task, episode: Episode) -> dict[str, np.ndarray]:
    return {
        "qpos": episode.observation[STATE],
        "qvel": feature_velocity(task, STATE, episode),
        "action": episode.action,
    }


def _example(
    recording: Recording, episode: Episode, pictures: dict[str, list[bytes]]
) -> dict[str, Any]:
    """A TFDS example."""
    task, cameras = recording.task, recording.observation.cameras
    metadata = {
        "task": task.name,
        "seed": recording.config.seed,
        "attempt": episode.attempt,
        "initial": episode.initial,
        "success": episode.success,
        "max_reward": episode.reward.max(),
    }
    if cameras:
        metadata["cameras"] = json.dumps(camera_records(task, episode, cameras))
    observation: dict[str, Any] = {
        f.name: episode.observation[f.name] for f in recording.observation.features
    }
    return episode_rlds.episode_example(
        observation=observation | pictures,
        action=episode.action,
        reward=episode.reward,
        success=bool(episode.done[-1]),
        metadata=metadata,
        instruction=None if task.instruction is None else task.instruction(episode.initial),
    )


def _metadata_features(recording: Recording) -> dict[str, Any]:
    scalar, names = tfds.features.Scalar, recording.task.initial_names
    size = jax.eval_shape(recording.task.initial_condition, jax.random.key(0)).size
    features = {
        "task": tfds.features.Text(doc="name of the task"),
        "seed": scalar(np.int64, doc="seed of the recording"),
        "attempt": scalar(np.int64, doc="number of the expert's try"),
        "initial": tfds.features.Tensor(
            shape=(size,), dtype=np.float32, doc=", ".join(names) or "initial condition"
        ),
        "success": scalar(np.bool_, doc="solved at some step"),
        "max_reward": scalar(np.float32, doc="largest reward"),
    }
    if recording.observation.cameras:
        doc = "JSON: name -> intrinsics and pose at the first step, and the body it is fixed to"
        features["cameras"] = tfds.features.Text(doc=doc)
    return features


def _reward_doc(task: Task) -> str:
    stages = ", ".join(f"{stage} {name}" for stage, name in enumerate(task.sub_goals, 1))
    return f"after the action; {stages}" if stages else "after the action"


def _write_summary(folder: Path, kept: int, tally: Tally) -> None:
    rate = wilson(np.arange(tally.tried) < tally.succeeded)
    content = dataclasses.asdict(tally) | {"kept": kept, "success_rate": rate.to_json()}
    (folder / SUMMARY_FILE).write_text(json.dumps(content, indent=1) + "\n")


def describe(folder: Path) -> str:
    """What a finished folder holds, as a few printable lines."""
    content = json.loads((folder / SUMMARY_FILE).read_text())
    rate = content["success_rate"]
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    return (
        f"dataset   {folder}\n"
        f"episodes  {content['kept']} kept\n"
        f"expert    {content['succeeded']} of {content['tried']} tries succeeded: "
        f"{100 * rate['value']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]\n"
        f"size      {size:.1f} MB"
    )


def chosen_observations(
    task: Task, names: str | None, height: int | None, width: int | None
) -> ObservationSpec:
    """--observations and the sizes of --height and --width; all features and no camera by default.

    Raises:
        ValueError: unknown observation, or a size without a camera.
    """
    spec = task.observation_spec
    if names is None:
        spec = dataclasses.replace(spec, cameras=())
    else:
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        try:
            spec = spec.select(wanted)
        except ValueError as error:
            raise ValueError(f"--observations: {error}") from error
    if (height or width) and not spec.cameras:
        raise ValueError("--height and --width need a camera in --observations")
    for flag, value in (("--height", height), ("--width", width)):
        if value is not None and value < 1:
            raise ValueError(f"{flag} must be at least 1, found {value}")
    cameras = tuple(
        dataclasses.replace(c, height=height or c.height, width=width or c.width)
        for c in spec.cameras
    )
    return dataclasses.replace(spec, cameras=cameras)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--help` is this module's docstring and the flags."""
    parser = argparse.ArgumentParser(
        "python -m arp_jax.sim.record",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--task", required=True, help=f"one of {', '.join(sorted(tasks.TASKS))}")
    add("-n", "--episodes", type=int, required=True, help="episodes to keep")
    add("--out", type=Path, required=True, help="folder of the result")
    add("--format", choices=("rlds", "act_hdf5"), default="rlds", help="layout of the files")
    add("--seed", type=int, default=0, help="of all random numbers")
    add("--noise", type=float, default=0.0, help="disturbance of the expert's way-points, m")
    add("--keep_failures", action="store_true", help="keep all tries, not only successes")
    add("--full_length", action="store_true", help="go on to the time limit after success")
    add("--observations", help="names with commas; default: all features, no camera")
    add("--height", type=int, help="of the pictures; default: the camera's own")
    add("--width", type=int, help="of the pictures; default: the camera's own")
    add(
        "--image_format",
        choices=IMAGE_FORMATS,
        default="png",
        help="png means raw in act_hdf5",
    )
    add("--envs", type=int, default=64, help="E, simulations side by side")
    add("--threads", type=int, default=0, help="threads and drawing processes; 0: one a core")
    add("--traceback", action="store_true", help="show the traceback of wrong usage")
    return parser.parse_args(argv)


def run_command(flags: argparse.Namespace) -> None:
    """Records what the flags say and prints a summary."""
    compile_cache.enable()
    begin = time.perf_counter()
    task = tasks.make_task(flags.task)
    config = TryConfig(flags.seed, flags.noise, flags.envs, flags.threads, flags.full_length)
    recording = Recording(
        task=task,
        expert=tasks.make_expert(flags.task),
        count=flags.episodes,
        config=config,
        observation=chosen_observations(task, flags.observations, flags.height, flags.width),
        keep_failures=flags.keep_failures,
        image_format=flags.image_format,
    )
    record = record_rlds if flags.format == "rlds" else record_act
    print(describe(record(recording, flags.out)))
    print(f"time      {time.perf_counter() - begin:.1f} s")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status (2 for wrong usage, in one line)."""
    flags = parse(argv)
    wrong_usage = (ValueError, ImportError, RuntimeError)  # RuntimeError: no OpenGL
    return exit_status(lambda: run_command(flags), flags.traceback, wrong_usage)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Converts episode logs of robot_bridge (.arplog) to RLDS.

Examples:
    python datasets/convert_bridge_log.py ~/logs --name my_arm --out ~/rlds
    python datasets/convert_bridge_log.py ~/logs/2026-11-20 --name corrections --out ~/rlds \\
        --outcome success --min_steps 10

The action is what was sent to the robot, after all safety checks. Each step also has
    action_source   policy, teach or takeover: who chose it
    intervention    whether a person was correcting the policy then
    proposed_action what the source wanted before safety
    achieved        joints read after the command (before it, if the log says so); the last reading
                    before where achieved_measured is false
    safety_flags    what safety did, with commas
    time_ns, command_time_ns, achieved_time_ns   since the episode's first observation
Logs that end without an end (a killed process) are taken up to their last whole record; harmed ones
(a wrong CRC) are refused without --recover. Pictures keep their bytes.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from arp_jax.data.formats import conversion_flags as common
from arp_jax.data.formats.array_episodes import Naming, make_example
from arp_jax.data.formats.conversion_run import write_dataset
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.specs import SpecMismatch, check_match
from arp_jax.training.command_line import exit_status
from robot_bridge.log.episode_log import SUFFIX, EpisodeLog, Step, read_log

METADATA = {
    "file": tfds.features.Text(doc="name of the log"),
    "robot": tfds.features.Text(doc="JSON: who moved"),
    "versions": tfds.features.Text(doc="JSON: of programs and policy"),
    "started_ns": tfds.features.Scalar(np.int64, doc="wall clock, ns since 1970"),
    "outcome": tfds.features.Text(doc="success, failure or unknown, as a person marked it"),
    "lost_bytes": tfds.features.Scalar(np.int64, doc="of the log that could not be read"),
}

# What --outcome takes, by `EpisodeLog.outcome`.
_OUTCOMES = {"any": (True, False, None), "marked": (True, False), "success": (True,)}


@dataclasses.dataclass(frozen=True)
class LogJob:
    """One log to write."""

    path: Path
    instruction: str | None


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = common.command_parser(__doc__, "bridge_logs")
    add = parser.add_argument
    add("source", type=Path, nargs="+", help=f"logs, or folders with *{SUFFIX}")
    add(
        "--outcome",
        choices=tuple(_OUTCOMES),
        default="any",
        help="only episodes marked a success, or marked at all; default %(default)s",
    )
    add("--min_steps", type=int, default=2, help="leave out shorter ones; default %(default)s")
    add("--recover", action="store_true", help="take harmed logs up to the harm")
    return parser.parse_args(argv)


def find_logs(sources: Sequence[Path]) -> list[Path]:
    """The logs given, and those in folders given, in the order of their names."""
    found: list[Path] = []
    for source in sources:
        inner = sorted(source.rglob(f"*{SUFFIX}")) if source.is_dir() else [source]
        if not inner:
            raise ValueError(f"{source}: no *{SUFFIX} in this folder")
        found.extend(inner)
    return found


def chosen_logs(flags: argparse.Namespace) -> list[EpisodeLog]:
    """Logs to convert; prints what is left out or incomplete.

    Raises:
        ValueError: a harmed log without --recover, none is left, or their specs differ.
    """
    kept: list[EpisodeLog] = []
    for path in find_logs(flags.source):
        log = read_log(path)
        if log.damage is not None and log.damage.reason == "harmed" and not flags.recover:
            raise ValueError(f"{path}: {log.state}; take what is whole with --recover")
        if log.end is None:
            print(f"{path}: {log.state}")
        if len(log.steps) < flags.min_steps:
            print(f"{path}: left out, {len(log.steps)} steps")
        elif log.outcome in _OUTCOMES[flags.outcome]:
            kept.append(log)
    if not kept:
        raise ValueError("no episode is left to convert; see --outcome and --min_steps")
    for log in kept[1:]:
        for name in ("observation", "action"):
            wanted, found = getattr(kept[0].header, name), getattr(log.header, name)
            try:
                check_match(wanted, found, f"{kept[0].path} and {log.path}")
            except SpecMismatch as error:
                raise ValueError(f"{error}; convert them apart") from error
    return kept


def extra_features(log: EpisodeLog) -> dict[str, Any]:
    """TFDS features of what a step has besides observation and action."""
    tensor, scalar, text = tfds.features.Tensor, tfds.features.Scalar, tfds.features.Text
    size = log.header.action.size
    since = "ns since the episode's first observation"
    return {
        "action_source": text(doc="policy, teach or takeover"),
        "intervention": scalar(np.bool_, doc="a person was correcting the policy"),
        "proposed_action": tensor(shape=(size,), dtype=np.float32, doc="before safety"),
        "achieved": tensor(shape=(achieved_size(log),), dtype=np.float32, doc="joints read"),
        "achieved_measured": scalar(np.bool_, doc="false: no reading, the one before"),
        "safety_flags": text(doc="what safety did, with commas"),
        # Records of TFDS have no 64-bit floats.
        "time_ns": scalar(np.int64, doc=f"of the observation, {since}"),
        "command_time_ns": scalar(np.int64, doc=f"of sending the action, {since}"),
        "achieved_time_ns": scalar(np.int64, doc=f"of reading `achieved`, {since}"),
    }


def achieved_size(log: EpisodeLog) -> int:
    """Number of joints in the log's readings; that of the action where there are none."""
    sizes = [len(step.achieved) for step in log.steps if step.achieved is not None]
    return sizes[0] if sizes else log.header.action.size


def extra_values(log: EpisodeLog, where: str) -> dict[str, list[Any]]:
    """The values of `extra_features`, name -> T values."""
    steps, start, size = log.steps, log.steps[0].time_ns, achieved_size(log)
    achieved, latest = [], (np.zeros(size, np.float32), start)
    for number, step in enumerate(steps):
        if step.achieved is not None:
            if len(step.achieved) != size:
                raise ValueError(
                    f"{where}: 'achieved' has {len(step.achieved)} joints at step {number}, "
                    f"{size} before"
                )
            latest = (step.achieved, step.achieved_time_ns)
        achieved.append(latest)
    return {
        "action_source": [step.source for step in steps],
        "intervention": [bool(inside) for inside in log.intervened],
        "proposed_action": [_proposed(step) for step in steps],
        "achieved": [values for values, _ in achieved],
        "achieved_measured": [step.achieved is not None for step in steps],
        "safety_flags": [",".join(step.flags) for step in steps],
        "time_ns": [step.time_ns - start for step in steps],
        "command_time_ns": [step.command_time_ns - start for step in steps],
        "achieved_time_ns": [time_ns - start for _, time_ns in achieved],
    }


def _proposed(step: Step) -> np.ndarray:
    return step.command if step.proposed is None else step.proposed


def read_job(job: LogJob) -> dict[str, Any]:
    """The RLDS example of one log; raises ValueError naming file, field and step."""
    log = read_log(job.path)
    where, spec = str(job.path), log.header.observation
    arrays = {f.name: np.stack([s.vectors[f.name] for s in log.steps]) for f in spec.features}
    arrays["command"] = np.stack([step.command for step in log.steps])
    arrays["reward"] = np.zeros(len(log.steps), np.float32)
    arrays["reward"][-1] = bool(log.outcome)
    naming = Naming(
        vectors={f.name: (f.name,) for f in spec.features},
        cameras={camera.name: camera.name for camera in spec.cameras},
        action=("command",),
        reward="reward",
    )
    outcomes = {True: "success", False: "failure", None: "unknown"}
    return make_example(
        naming,
        spec.cameras,
        arrays,
        {camera.name: [s.frames[camera.name] for s in log.steps] for camera in spec.cameras},
        where,
        success=bool(log.outcome),
        metadata={
            "file": job.path.name,
            "robot": json.dumps(dict(log.header.robot), sort_keys=True),
            "versions": json.dumps(dict(log.header.versions), sort_keys=True),
            "started_ns": log.header.started_ns,
            "outcome": outcomes[log.outcome],
            "lost_bytes": log.damage.lost_bytes if log.damage else 0,
        },
        instruction=job.instruction,
        extra=extra_values(log, where),
    )


def run(flags: argparse.Namespace) -> None:
    """Converts and prints a summary."""
    logs = chosen_logs(flags)
    sentences = common.sentences_of(flags)
    sentences.check([log.path.name for log in logs])
    texts = [sentences.of(log.path.name) or log.header.instruction for log in logs]
    jobs = [
        LogJob(log.path, text if any(texts) else None)
        for log, text in zip(logs, texts, strict=True)
    ]
    digest = hashlib.sha256()
    for log in logs:
        digest.update(log.path.name.encode() + hashlib.sha256(log.path.read_bytes()).digest())
    first = logs[0].header
    # Pictures in files are RGB, whatever order the robot's program had them in.
    cameras = tuple(dataclasses.replace(c, color_order="rgb") for c in first.observation.cameras)
    observation = dataclasses.replace(first.observation, cameras=cameras)
    frames = list(logs[0].steps[0].frames.values())
    write_dataset(
        flags,
        DatasetSpecs(observation, first.action),
        jobs,
        read_job,
        description=f"{len(jobs)} episodes logged by robot_bridge.",
        digest=digest.hexdigest(),
        metadata=METADATA,
        reward="1 at the end of an episode that a person marked a success",
        language=any(texts),
        image_format="jpeg" if frames and frames[0].startswith(b"\xff\xd8") else "png",
        extra=extra_features(logs[0]),
    )


def main(argv: Sequence[str]) -> int:
    """Converts logs; returns the exit status."""
    flags = parse(argv)
    return exit_status(lambda: run(flags), flags.traceback, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

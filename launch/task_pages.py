"""Writes docs/tasks.md: a page a task, from the task itself and from measured results.

In: the tasks' docstrings, specs and factors, and the results of `benchmarks/sim_check.py`. Out: the
Markdown file and one picture a task (the expert half way through an episode), docs/images/tasks/.
Nothing is written by hand but the introduction, so that the page cannot lie about a spec.

Examples:
    python -m launch.task_pages --results benchmarks/results/2core_epyc_sim_check.json
    python -m launch.task_pages --results RESULTS --no-pictures
"""

import argparse
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from arp_jax.sim.task import Task
from arp_jax.sim.tasks import TASKS, make_expert, make_task
from arp_jax.specs import FeatureSpec

PAGE, PICTURES = Path("docs/tasks.md"), Path("docs/images/tasks")
HEIGHT, WIDTH = 240, 320
INTRODUCTION = """\
# Tasks

Every task runs in two engines from one MJCF: `native` (C MuJoCo on all cores, the default on a CPU)
and `mjx` (JAX, the default on a GPU); `mjx-warp` needs the extra `arp_jax[warp]`. Push-T in its own
exact engine has [a page of its own](push_t.md). This page is written by `python -m
launch.task_pages` from the tasks and from the results of `make sim-check`; do not edit it.

```sh
python -m arp_jax.sim.record --task transfer_cube -n 1000 --out DATA      # demonstrations, RLDS
python -m arp_jax.evaluate RUN --env transfer_cube --episodes 1000        # a policy
python -m arp_jax.evaluate --policy expert --env transfer_cube            # its expert
```

Metres, radians, world frame with z up unless a table says otherwise. Cameras cost time and are
drawn only when a policy's `observations` name them. An episode succeeds when the success condition
holds after any control step.
"""


def paragraphs(doc: str) -> dict[str, str]:
    """Title and labelled paragraphs ("Reset", "Action", ...) of a task module's docstring."""
    found, label = {"Title": ""}, "Title"
    for line in doc.strip().splitlines():
        head, colon, rest = line.partition(": ")
        if colon and head in ("Reset", "Action", "Success", "Stages", "Observations"):
            label, line = head, rest
            found[label] = ""
        elif not line.strip():
            label = "More" if label != "Title" or found["Title"] else label
        found[label] = f"{found.get(label, '')} {line.strip()}".strip()
    return {label: text for label, text in found.items() if text}


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def limits(feature: FeatureSpec) -> str:
    """Limits of a vector, shortened when all dimensions share them."""
    if feature.low is None or feature.high is None:
        return "—"
    pairs = list(dict.fromkeys(zip(feature.low, feature.high, strict=True)))
    text = ", ".join(f"{low:g} … {high:g}" for low, high in pairs[:3])
    return text + (", …" if len(pairs) > 3 else "")


def named_dims(dims: Sequence[str]) -> str:
    """Names of dimensions, shortened in the middle."""
    if len(dims) <= 8:
        return ", ".join(dims)
    return ", ".join(dims[:4]) + ", … " + ", ".join(dims[-2:])


def tables(task: Task) -> str:
    """Observation and action tables of a task."""
    lines = ["| observation | size | what | unit | frame | limits |", "|---|---|---|---|---|---|"]
    for feature in task.observation_spec.features:
        lines.append(
            f"| `{feature.name}` | {feature.size} | {named_dims(feature.dims)} | {feature.unit} "
            f"| {feature.frame} | {limits(feature)} |"
        )
    sizes: dict[str, list[str]] = {}
    for camera in task.observation_spec.cameras:
        kind = f"{camera.height} × {camera.width} × 3 | picture, uint8 {camera.color_order}"
        sizes.setdefault(kind, []).append(f"`{camera.name}`")
    lines += [f"| {', '.join(names)} | {kind} | | | 0 … 255 |" for kind, names in sizes.items()]
    action = task.action_spec
    spec = FeatureSpec("action", action.dims, action.unit, action.frame, action.low, action.high)
    kind = "targets" if all(action.absolute) else "changes"
    lines += ["", "| action | what | unit | frame | limits | rate |", "|---|---|---|---|---|---|"]
    lines.append(
        f"| {action.size} {kind} | {named_dims(action.dims)} | {action.unit} | {action.frame} "
        f"| {limits(spec)} | {action.rate_hz:g} Hz, {task.physics_steps} physics steps |"
    )
    return "\n".join(lines)


def expert_line(rows: Sequence[Mapping[str, Any]]) -> str:
    """What `sim_check.py` measured, as one or two sentences."""
    parts = []
    for row in rows:
        rates = {int(envs): rate for envs, rate in row["steps_per_second"].items()}
        fastest = max(rates, key=lambda envs: rates[envs])
        if row["expert_success"] is not None:
            low, high = row["expert_interval"]
            parts.append(
                f"Expert: {100 * row['expert_success']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] "
                f"of {row['expert_episodes']} episodes succeed."
            )
        text = f"`{row['engine']}`: {rates[fastest]:,.0f} control steps/s ({fastest} environments)"
        if row["deviation_mm"] is not None:
            text += (
                f", at most {row['deviation_mm']:.1f} mm from native at the end of an expert's "
                f"replay, {100 * row['same_success']:.0f} % of the episodes end alike"
            )
        parts.append(text + ".")
    return " ".join(parts) if parts else "Not measured."


def section(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """One task as Markdown."""
    task = make_task(name)
    doc = paragraphs(importlib.import_module(TASKS[name][0]).__doc__ or "")
    lines = [f"## {name}", "", doc["Title"], "", f"![{name}](images/tasks/{name}.png)", ""]
    if "More" in doc:
        lines += [doc["More"], ""]
    reset, action, success = (sentence(doc[label]) for label in ("Reset", "Action", "Success"))
    lines += [f"**Reset.** {reset}", "", f"**Action.** {action}", ""]
    lines += [f"**Success.** {success} Time limit: {task.max_episode_steps} steps.", ""]
    if task.sub_goals:
        goals = "; ".join(f"{place + 1}: {goal}" for place, goal in enumerate(task.sub_goals))
        lines += [f"**Rewards.** {goals}.", ""]
    if task.factors:
        factors = "; ".join(f"{f.name} ({', '.join(f.values)})" for f in task.factors)
        lines += [f"**Results are broken down by** {factors}.", ""]
    lines += [tables(task), "", f"**Measured.** {expert_line(rows)}", ""]
    return "\n".join(lines)


def write_picture(name: str, path: Path) -> None:
    """The task's first camera half way through an expert's episode."""
    from PIL import Image

    from arp_jax.sim.expert_episodes import ExpertRunner, TryConfig
    from arp_jax.sim.render import OffscreenRenderer

    task = make_task(name)
    episode = ExpertRunner(task, make_expert(name), TryConfig(envs=1)).batch(0)[0]
    frame = len(episode.action) // 2
    with OffscreenRenderer(task.load_model(), HEIGHT, WIDTH) as renderer:
        camera = task.observation_spec.cameras[0].name
        picture = renderer.render(episode.qpos[frame], camera, episode.start)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, optimize=True)


def read_results(path: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Rows of sim_check's JSON by task; raises ValueError naming an unreadable file."""
    if path is None:
        return {}
    try:
        rows = json.loads(path.read_text())["rows"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"--results {path}: {error}; make it with benchmarks/sim_check.py"
        ) from error
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["task"], []).append(row)
    return found


def main(argv: Sequence[str]) -> int:
    """Writes the page; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, help="JSON of benchmarks/sim_check.py")
    parser.add_argument("--no-pictures", action="store_true", help="keep the present pictures")
    args = parser.parse_args(argv)
    try:
        results = read_results(args.results)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pages = [section(name, results.get(name, [])) for name in TASKS]
    PAGE.write_text(INTRODUCTION + "\n" + "\n".join(pages))
    if not args.no_pictures:
        for name in tqdm(TASKS, desc="pictures", unit="task"):
            write_picture(name, PICTURES / f"{name}.png")
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

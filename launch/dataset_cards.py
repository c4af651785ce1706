"""Writes datasets/cards/*.json of the datasets that this project makes, from the code itself.

In: the tasks' docstrings and specs, Push-T's specs. Out: one card a dataset: the two of Push-T and
those that `python -m arp_jax.sim.record` makes. Cards of published datasets are written by hand.

Example:
    python -m launch.dataset_cards
"""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Sequence

from arp_jax.data.cards import CARDS, Card
from arp_jax.data.rlds import DatasetSpecs
from arp_jax.sim.push_t.env import ACTION_SPEC, OBSERVATION_SPEC
from arp_jax.sim.tasks import TASKS, make_task
from launch.task_pages import paragraphs

LICENSE = "Apache-2.0, the arp_jax authors"
CITATION = "The arp_jax authors; this repository."
_HUMAN_LICENSE = "MIT, Copyright (c) 2023 Columbia Artificial Intelligence and Robotics Lab"
_HUMAN_CITATION = (
    "Chi et al., Diffusion Policy: Visuomotor Policy Learning via Action Diffusion, RSS 2023"
)
_PUSH_T_NOTES = {
    "push_t": (
        "Built by `python datasets/push_t/build.py` from pusht_cchi_v7_replay.zarr (SHA-256 "
        "095007df5123ff64d0ef28170c5ee8c71acb85423ef6305c0d7f6e6b4aaf728c of its arrays): 206 "
        "episodes of 49 to 246 steps, 25,650 steps.",
        "The state after an episode's last action was not recorded: the last reward repeats the "
        "value of its own pose.",
        "The demonstrations do not end in the simulator's success (coverage 0.95): the last "
        "recorded pose covers 0.85 of the goal (median).",
        "observation/recorded_keypoints [9, 2] px (the keypoints that the recording program used, "
        "another choice and order than `keypoints`) and observation/n_contacts are in no spec.",
    ),
    "push_t_planned": (
        "Built by `python datasets/push_t_planned/build.py --episodes 200 --seed 0`; with --images "
        "there is the camera of push_t too.",
        "Every episode ends with coverage above 0.95; its last step is terminal.",
        "Speed and action noise are drawn per episode; the noisy actions are the recorded ones.",
        "episode_metadata/initial [5] is the raw reset draw of the episode.",
    ),
}


def project_cards() -> Iterator[Card]:
    """The cards of this project's datasets, Push-T's first."""
    planned = OBSERVATION_SPEC.select(name for name in OBSERVATION_SPEC.names if name != "image")
    yield Card(
        name="push_t",
        aliases=(),
        description="Human Push-T demonstrations of Diffusion Policy.",
        homepage="https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip",
        license=_HUMAN_LICENSE,
        citation=_HUMAN_CITATION,
        notes=_PUSH_T_NOTES["push_t"],
        fields={},
        specs=DatasetSpecs(OBSERVATION_SPEC, ACTION_SPEC),
    )
    yield Card(
        name="push_t_planned",
        aliases=(),
        description="Push-T demonstrations by the sampling planner in our own simulator; "
        "successes only.",
        homepage="arp_jax.sim.experts.push_t_planner",
        license=LICENSE,
        citation=CITATION,
        notes=_PUSH_T_NOTES["push_t_planned"],
        fields={},
        specs=DatasetSpecs(planned, ACTION_SPEC),
    )
    for name in TASKS:
        yield task_card(name)


def task_card(name: str) -> Card:
    """The card of the demonstrations that `record` makes of a task."""
    module = TASKS[name][0]
    task = make_task(name)
    doc = paragraphs(importlib.import_module(module).__doc__ or "")
    notes = [
        f"Made by `python -m arp_jax.sim.record --task {name} -n EPISODES --out DATA_DIR`; the "
        "folder's specs.json lists what was recorded: all features and, with --observations, the "
        "cameras in the sizes asked for.",
        "Only the expert's successes, unless --keep_failures was given.",
        f"Success: {doc['Success']}",
    ]
    if task.instruction is not None:
        notes.append("language_instruction holds the episode's sentence at every step.")
    return Card(
        name=name,
        aliases=(),
        description=f"A scripted expert in simulation. {doc['Title']}",
        homepage=f"docs/tasks.md#{name}",
        license=LICENSE,
        citation=CITATION,
        notes=tuple(notes),
        fields={},
        specs=DatasetSpecs(task.observation_spec, task.action_spec),
    )


def card_text(card: Card) -> str:
    """The file's content."""
    return json.dumps(card.to_json(), indent=1, ensure_ascii=False) + "\n"


def main(argv: Sequence[str]) -> int:
    """Writes the cards; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    cards = list(project_cards())
    for card in cards:
        (CARDS / f"{card.name}.json").write_text(card_text(card))
    print(f"wrote {len(cards)} cards to {CARDS}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""How an ALOHA task becomes a `Task`: what all three share, filled in.

In: the scene and the few things that make the task what it is. Out: a `Task` with joint actions,
joint positions, velocities and object poses observed, objects that start anywhere in their areas,
and a reward that counts stages. No task's rules here.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import mujoco
from jax import Array

from arp_jax.sim.aloha import joints, objects, scene
from arp_jax.sim.areas import Area, quadrant_factor
from arp_jax.sim.free_bodies import qpos_place
from arp_jax.sim.task import (
    Factor,
    Memory,
    Outcome,
    Readings,
    Task,
    keep_memory,
    no_memory,
    staged_outcome,
)
from arp_jax.specs import ObservationSpec

# As the camera "angle" sees the table: x grows to the right and y away from it.
_QUARTERS = ("near left", "near right", "far left", "far right")


def table_task(
    name: str,
    load_model: Callable[[], mujoco.MjModel],
    sides: Sequence[str],
    areas: Mapping[str, Area],
    poses: Mapping[str, str],
    reward: Callable[[Readings, Memory], Array],
    sub_goals: tuple[str, ...],
    start_memory: Callable[[Array, Readings], Memory] = no_memory,
    remember: Callable[[Memory, Readings, Array], Memory] = keep_memory,
) -> Task:
    """The task.

    Args:
        name, load_model, start_memory, remember: as in `Task`.
        sides: the arms, in the scene's order.
        areas: free body -> where it starts; the initial condition is x, y of each in turn.
        poses: feature -> free body whose pose it is.
        reward: (readings, memory) -> number of sub-goals reached [].
        sub_goals: what the stages mean; reaching the last one is success.
    """
    model = load_model()
    places = {feature: qpos_place(model, body) for feature, body in poses.items()}

    def observe(readings: Readings, memory: Memory) -> dict[str, Array]:
        del memory
        return joints.observe(readings, sides, places)

    def outcome(readings: Readings, memory: Memory) -> Outcome:
        return staged_outcome(reward(readings, memory), len(sub_goals))

    def initial_condition(rng: Array) -> Array:
        keys = jax.random.split(rng, len(areas)) if len(areas) > 1 else [rng]
        return jnp.concatenate(
            [area.draw(key) for area, key in zip(areas.values(), keys, strict=True)]
        )

    return Task(
        name=name,
        load_model=load_model,
        observation_spec=ObservationSpec(
            joints.feature_specs(sides, list(places)), joints.camera_specs(sides)
        ),
        action_spec=joints.action_spec(sides),
        substeps=scene.SUBSTEPS,
        max_episode_steps=400,
        success_metric="reward",
        initial_condition=initial_condition,
        start=objects.start_with(model, list(areas)),
        observe=observe,
        outcome=outcome,
        fields=("qpos", "qvel", "geom_xpos", "geom_xmat"),
        control=joints.control,
        start_memory=start_memory,
        remember=remember,
        sub_goals=sub_goals,
        factors=tuple(_quadrant(areas, body) for body in areas),
        initial_names=tuple(f"{body}_{axis}" for body in areas for axis in ("x", "y")),
    )


def _quadrant(areas: Mapping[str, Area], body: str) -> Factor:
    """Of one body's start; with several bodies its name tells whose."""
    first = 2 * list(areas).index(body)
    name = "quadrant" if len(areas) == 1 else f"{body}_quadrant"
    return quadrant_factor(
        lambda initial: initial[first : first + 2], areas[body].middle, _QUARTERS, name
    )

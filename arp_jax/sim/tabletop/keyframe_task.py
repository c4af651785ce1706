"""How a tabletop task becomes a `Task`: what all eight share, filled in.

In: a model, a layout of the initial condition, and the few functions that make the task what it is.
Out: a `Task` with key-frame actions, the gripper's last command in its memory, the common features
and cameras, and sentences made from phrases and colors. No task's rules here.

A layout must have the parts "colors" (index of a palette color for each role) and "phrase" (index
of a sentence); phrases name roles in braces: "lift the {target} block".
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array

from arp_jax.sim import kinematics, rotations
from arp_jax.sim.tabletop import arm, keyframes, palette
from arp_jax.sim.tabletop.layout import Layout
from arp_jax.sim.task import Factor, Memory, Outcome, Readings, Start, Task, staged_outcome
from arp_jax.specs import FeatureSpec, ObservationSpec

_FIELDS = ("qpos", "xpos", "xquat", "geom_xpos", "geom_xmat", "site_xpos", "site_xmat")
_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_STATE_LOW = tuple(low for *_, (low, _), _ in arm.LINKS)
_STATE_HIGH = tuple(high for *_, (_, high), _ in arm.LINKS)


def _no_progress(initial: Array, readings: Readings) -> Array:
    del initial, readings
    return jnp.zeros(0)


def _keep_progress(progress: Array, readings: Readings) -> Array:
    del readings
    return progress


def keyframe_task(
    name: str,
    model: mujoco.MjModel,
    layout: Layout,
    phrases: tuple[str, ...],
    objects: tuple[str, ...],
    draw: Callable[[Array], dict[str, Array]],
    start: Callable[[Array], Start],
    reward: Callable[[Readings, Array], Array],
    sub_goals: tuple[str, ...],
    max_episode_steps: int,
    factors: tuple[Factor, ...],
    first_progress: Callable[[Array, Readings], Array] = _no_progress,
    update_progress: Callable[[Array, Readings], Array] = _keep_progress,
) -> Task:
    """The task.

    Args:
        name, max_episode_steps, factors, start: as in `Task`.
        model: compiled from `arm.new_tabletop` and the task's things.
        layout: of the initial condition.
        phrases: sentences with roles of the part "colors" in braces.
        objects: bodies whose poses are observed, the one that matters first.
        draw: key -> values of all parts of the layout but "colors" and "phrase".
        reward: (readings, progress) -> float32 [], the number of sub-goals reached.
        sub_goals: what the stages mean; reaching the last one is success.
        first_progress: (initial, readings) -> progress float32 [n], what the task remembers.
        update_progress: (progress, readings after the step) -> progress.
    """
    control = keyframes.KeyframeControl(kinematics.chain_of(model, arm.TOOL, arm.JOINTS))

    def initial_condition(key: Array) -> Array:
        color_key, phrase_key, own_key = jax.random.split(key, 3)
        colors = palette.draw(color_key, len(layout.dims("colors")))
        phrase = jax.random.randint(phrase_key, (1,), 0, len(phrases))
        return layout.pack(colors=colors, phrase=phrase, **draw(own_key))

    def start_memory(initial: Array, readings: Readings) -> Memory:
        return {
            "gripper": jnp.ones(()),
            "colors": layout.part(initial, "colors"),
            "progress": first_progress(initial, readings),
        }

    def remember(memory: Memory, readings: Readings, action: Array) -> Memory:
        progress = update_progress(memory["progress"], readings)
        return memory | {"gripper": action[7], "progress": progress}

    def observe(readings: Readings, memory: Memory) -> dict[str, Array]:
        return _features(model, objects, readings, memory)

    def outcome(readings: Readings, memory: Memory) -> Outcome:
        return staged_outcome(reward(readings, memory["progress"]), len(sub_goals))

    progress_size = jax.eval_shape(first_progress, *_example(model, layout)).shape[0]
    return Task(
        name=name,
        load_model=lambda: model,
        observation_spec=_observation_spec(objects, layout.dims("colors"), progress_size),
        action_spec=keyframes.ACTION_SPEC,
        substeps=keyframes.SUBSTEPS,
        max_episode_steps=max_episode_steps,
        success_metric="reward",
        initial_condition=initial_condition,
        start=start,
        observe=observe,
        outcome=outcome,
        fields=_FIELDS,
        control=control,
        start_memory=start_memory,
        remember=remember,
        sub_goals=sub_goals,
        factors=(*factors, _color_factor(layout)),
        instruction=_instruction(layout, phrases),
        initial_names=layout.names,
    )


def highest_stage(*reached: Array) -> Array:
    """Number of the last condition that holds, float32 []: later stages imply the earlier ones."""
    stages = [jnp.where(one, float(place + 1), 0.0) for place, one in enumerate(reached)]
    return jnp.max(jnp.stack(stages))


def _instruction(layout: Layout, phrases: tuple[str, ...]) -> Callable[[Any], str]:
    """Initial condition [K] -> the sentence, with the colors' names filled in."""

    def instruction(initial: Any) -> str:
        colors = layout.part(np.asarray(initial), "colors")
        names = [palette.NAMES[int(index)] for index in colors]
        sentence = phrases[int(layout.part(np.asarray(initial), "phrase")[0])]
        return sentence.format(**dict(zip(layout.dims("colors"), names, strict=True)))

    return instruction


def _example(model: mujoco.MjModel, layout: Layout) -> tuple[Any, Any]:
    """Shapes of an initial condition and of readings, for tracing."""
    body, geom = (model.nbody, model.ngeom)
    shapes = {
        "qpos": (model.nq,),
        "xpos": (body, 3),
        "xquat": (body, 4),
        "geom_xpos": (geom, 3),
        "geom_xmat": (geom, 3, 3),
        "site_xpos": (model.nsite, 3),
        "site_xmat": (model.nsite, 3, 3),
    }
    readings = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    return jax.ShapeDtypeStruct((len(layout.names),), jnp.float32), readings


def _color_factor(layout: Layout) -> Factor:
    """Factor "color": that of the first role."""

    def classify(initial: Array) -> Array:
        return layout.part(initial, "colors")[0].astype(jnp.int32)

    return Factor("color", palette.NAMES, classify)


def _observation_spec(
    objects: tuple[str, ...], roles: tuple[str, ...], progress_size: int
) -> ObservationSpec:
    last = float(len(palette.NAMES) - 1)
    poses = tuple(f"{body}_{dim}" for body in objects for dim in _POSE)
    counts = tuple(f"progress_{i}" for i in range(progress_size))
    # Only tasks that remember something have it.
    progress = (FeatureSpec("progress", counts, "count", "none"),) if counts else ()
    return ObservationSpec(
        features=(
            FeatureSpec(
                "state",
                (*arm.JOINTS, "gripper_opening"),
                "rad, rad, rad, rad, rad, rad, rad, m",
                "base",
                (*_STATE_LOW, 0.0),
                (*_STATE_HIGH, 2 * arm.FINGER_OPEN),
            ),
            FeatureSpec("tool_pose", _POSE, "m, m, m, 1, 1, 1, 1", "world"),
            FeatureSpec(
                "proprio", ("gripper_open", "finger_left", "finger_right"), "1, m, m", "gripper"
            ),
            FeatureSpec("object_pose", poses, "m and unit quaternions", "world"),
            FeatureSpec(
                "object_color",
                roles,
                "palette index",
                "none",
                (0.0,) * len(roles),
                (last,) * len(roles),
            ),
            *progress,
        ),
        cameras=arm.CAMERAS,
    )


def _features(
    model: mujoco.MjModel, objects: tuple[str, ...], readings: Readings, memory: Memory
) -> dict[str, Array]:
    qpos = readings["qpos"]
    site = model.site(arm.TOOL).id
    quat = rotations.from_matrix(readings["site_xmat"][site].reshape(3, 3))
    bodies = jnp.array([model.body(name).id for name in objects])
    turns = jnp.roll(readings["xquat"][bodies], -1, axis=-1)  # [n, 4] xyzw
    features = {
        "state": jnp.concatenate([qpos[:7], qpos[7:9].sum(keepdims=True)]),
        "tool_pose": jnp.concatenate([readings["site_xpos"][site], jnp.roll(quat, -1)]),
        "proprio": jnp.concatenate([memory["gripper"][None], qpos[7:9]]),
        "object_pose": jnp.concatenate([readings["xpos"][bodies], turns], -1).reshape(-1),
        "object_color": memory["colors"],
    }
    return features | ({"progress": memory["progress"]} if memory["progress"].size else {})

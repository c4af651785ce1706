"""Tables of colored blocks, as lifting and stacking share them.

In: names of the blocks, the block that matters first, and a task's rules. Out: the model, a layout
of the initial condition, the task. The rules themselves are in the tasks' own files.
"""

import functools
from collections.abc import Callable

import mujoco
from jax import Array

from arp_jax.sim.areas import Area
from arp_jax.sim.tabletop import arm, palette, placement, things
from arp_jax.sim.tabletop.keyframe_task import keyframe_task
from arp_jax.sim.tabletop.layout import Layout, pose_names
from arp_jax.sim.task import Readings, Start, Task

AREA = Area((0.02, 0.36), (-0.28, 0.28))
# Blocks that far apart leave room for an open finger at any angle, m.
SPACING = 0.1


def block_layout(names: tuple[str, ...]) -> Layout:
    """Planar poses and colors of the blocks, and the phrase."""
    return Layout((("blocks", pose_names(*names)), ("colors", names), ("phrase", ("index",))))


@functools.cache
def block_model(names: tuple[str, ...]) -> mujoco.MjModel:
    """The scene with these blocks; they may touch each other."""
    spec = arm.new_tabletop()
    for place, name in enumerate(names):
        things.add_loose_box(spec, name)
        things.let_touch(spec, names[:place], (name,))
    return spec.compile()


def block_task(
    name: str,
    layout: Layout,
    phrases: tuple[str, ...],
    reward: Callable[[Readings, Array], Array],
    sub_goals: tuple[str, ...],
    max_episode_steps: int,
) -> Task:
    """A task with nothing but blocks; arguments as in `keyframe_task`, `layout` of `block_layout`.

    Blocks start in different cells of `AREA`, turned by up to 45 degrees.
    """
    names = layout.dims("colors")
    model = block_model(names)

    def draw(key: Array) -> dict[str, Array]:
        spacing = (SPACING, SPACING)
        return {"blocks": placement.scatter_poses(key, AREA, (2, 3), len(names), spacing, 0.785)}

    def start(initial: Array) -> Start:
        colors = palette.rgba(layout.part(initial, "colors"))
        return things.compose_start(
            model,
            things.on_table(names, poses(initial)),
            colors=dict(zip(names, colors, strict=True)),
        )

    def poses(initial: Array) -> Array:
        return layout.poses(initial, "blocks")

    return keyframe_task(
        name=name,
        model=model,
        layout=layout,
        phrases=phrases,
        objects=names,
        draw=draw,
        start=start,
        reward=reward,
        sub_goals=sub_goals,
        max_episode_steps=max_episode_steps,
        factors=placement.place_factors(AREA, poses),
    )

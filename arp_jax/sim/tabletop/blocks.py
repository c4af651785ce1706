"""Tables of colored blocks, as lifting and stacking share them.

In: names of the blocks, the block that matters first. Out: a layout of the initial condition, the
model, draws, the start and the factors. The rules of a task are in its own file.
"""

import mujoco
from jax import Array

from arp_jax.sim.tabletop import arm, palette, placement, things
from arp_jax.sim.tabletop.layout import Layout, pose_names
from arp_jax.sim.task import Factor, Start

AREA = placement.Area(0.02, 0.36, -0.28, 0.28)
# Blocks that far apart leave room for an open finger at any angle, m.
SPACING = 0.1


def block_layout(names: tuple[str, ...]) -> Layout:
    """Planar poses and colors of the blocks, and the phrase."""
    return Layout((("blocks", pose_names(*names)), ("colors", names), ("phrase", ("index",))))


def block_model(names: tuple[str, ...]) -> mujoco.MjModel:
    """The scene with these blocks; they may touch each other."""
    spec = arm.new_tabletop()
    for place, name in enumerate(names):
        things.add_loose_box(spec, name)
        things.let_touch(spec, names[:place], (name,))
    return spec.compile()


def draw_blocks(key: Array, count: int) -> dict[str, Array]:
    """The part "blocks": poses in different cells of `AREA`, turned by up to 45 degrees."""
    return {"blocks": placement.scatter_poses(key, AREA, (2, 3), count, (SPACING, SPACING), 0.785)}


def start_blocks(model: mujoco.MjModel, layout: Layout, initial: Array) -> Start:
    """Blocks on the table in their colors."""
    names = layout.dims("colors")
    colors = palette.rgba(layout.part(initial, "colors"))
    return things.compose_start(
        model,
        things.on_table(names, layout.poses(initial, "blocks")),
        colors=dict(zip(names, colors, strict=True)),
    )


def block_factors(layout: Layout) -> tuple[Factor, ...]:
    """Quadrant of the first block, and how near the others are."""

    def poses(initial: Array) -> Array:
        return layout.poses(initial, "blocks")

    return (
        placement.quadrant_factor(AREA, lambda initial: poses(initial)[0]),
        placement.distractor_factor(poses, slice(1, None)),
    )

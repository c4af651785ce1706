"""Names of tasks -> tasks and their experts. A table, nothing else.

In: a name as on the command line. Out: a `Task` or an `Expert`, made on first use, so that naming a
task costs nothing. Push-T in its own engine is not here: `push_t/env.py`.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # names alone must not cost an import of MuJoCo
    from arp_jax.sim.experts.expert import Expert
    from arp_jax.sim.task import Task

# name -> (module with make_task(), module with make_expert()).
_ALOHA, _MYCOBOT, _TABLETOP = "arp_jax.sim.aloha", "arp_jax.sim.mycobot", "arp_jax.sim.tabletop"
_EXPERTS = "arp_jax.sim.experts"
TASKS = {
    "transfer_cube": (f"{_ALOHA}.transfer_cube", f"{_EXPERTS}.aloha_transfer_cube"),
    "insertion": (f"{_ALOHA}.insertion", f"{_EXPERTS}.aloha_insertion"),
    "move_cube": (f"{_ALOHA}.move_cube", f"{_EXPERTS}.aloha_move_cube"),
    "mycobot_reach": (f"{_MYCOBOT}.reach", f"{_EXPERTS}.mycobot_reach"),
    "mycobot_move_cube": (f"{_MYCOBOT}.move_cube", f"{_EXPERTS}.mycobot_move_cube"),
    "mycobot_push_t": (f"{_MYCOBOT}.push_t", f"{_EXPERTS}.mycobot_push_t"),
    "mycobot_pick_place": (f"{_MYCOBOT}.pick_place", f"{_EXPERTS}.mycobot_pick_place"),
    "reach_target": (f"{_TABLETOP}.reach_target", f"{_EXPERTS}.tabletop"),
    "push_buttons": (f"{_TABLETOP}.push_buttons", f"{_EXPERTS}.tabletop"),
    "pick_and_lift": (f"{_TABLETOP}.pick_and_lift", f"{_EXPERTS}.tabletop"),
    "place_on_color": (f"{_TABLETOP}.place_on_color", f"{_EXPERTS}.tabletop"),
    "stack_blocks": (f"{_TABLETOP}.stack_blocks", f"{_EXPERTS}.tabletop"),
    "put_item_in_drawer": (f"{_TABLETOP}.put_item_in_drawer", f"{_EXPERTS}.tabletop"),
    "insert_peg": (f"{_TABLETOP}.insert_peg", f"{_EXPERTS}.tabletop"),
    "close_lid": (f"{_TABLETOP}.close_lid", f"{_EXPERTS}.tabletop"),
}


@functools.cache
def make_task(name: str) -> Task:
    """The task of a name; raises ValueError for an unknown one."""
    if name not in TASKS:
        raise ValueError(f"task {name!r} is unknown; choose one of {sorted(TASKS)}")
    return importlib.import_module(TASKS[name][0]).make_task()


@functools.cache
def make_expert(name: str) -> Expert:
    """The scripted expert of a task; raises ValueError for an unknown one."""
    task = make_task(name)
    return importlib.import_module(TASKS[name][1]).make_expert(task)

"""What each request of a person does to the control loop; called by its tick, in its thread.

In: a checked `operator.Request`. Out: an event of the state machine, a marker in the log, another
source of actions. What is not possible in this mode changes nothing; `Bridge.command` has said so
to whoever asked.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robot_bridge.arm import describe_error
from robot_bridge.loop.operator import COMMANDS, Request
from robot_bridge.safety.modes import MOVING, TABLE, Event, Mode

if TYPE_CHECKING:
    from robot_bridge.loop.control_loop import ControlLoop

_EVENTS = {
    "start": Event.START,
    "stop": Event.FINISH,
    "hold": Event.HOLD,
    "resume": Event.RESUME,
    "estop": Event.ESTOP,
    "reset": Event.RESET,
}
_EPISODE = (Mode.RUNNING, Mode.HOLD)
_OF_EPISODES = ("success", "failure", "takeover")
_BY_HAND = ("jog", "gripper", "give_back")


def refused(mode: Mode, takeover: bool, name: str, error: int = 0) -> str | None:
    """Why a command does nothing in this mode (`error`: the arm's); None when it is possible."""
    if _does_something(mode, takeover, name, error):
        return None
    usable = ", ".join(possible(mode, takeover, error))
    where = "mode running or hold, while a person has taken over" if name in _BY_HAND else ""
    where = where or ("mode running or hold" if name in _OF_EPISODES else "")
    only = f" (only in {where})" if where else ""
    return f"{name} is not possible in mode {mode}{only}; possible: {usable}"


def possible(mode: Mode, takeover: bool, error: int = 0) -> list[str]:
    """Commands that do something now; `error`: the arm's code, 0 for none."""
    return [name for name in COMMANDS if _does_something(mode, takeover, name, error)]


def _does_something(mode: Mode, takeover: bool, name: str, error: int) -> bool:
    if name == "reset" and error and mode not in MOVING:
        return True
    if name in _EVENTS:
        return (mode, _EVENTS[name]) in TABLE
    if name in _BY_HAND:
        return takeover and mode in _EPISODE
    if name == "power_on":
        return mode not in MOVING and mode is not Mode.ESTOP
    return mode in _EPISODE or name not in _OF_EPISODES


def obey(loop: "ControlLoop", request: Request) -> None:
    """Does what was asked, if it is possible now."""
    name, arguments = request.name, request.arguments
    if refused(loop.mode, loop.takeover, name, loop.error) is not None:
        return
    if name == "start":
        loop.begin()
    elif name == "resume":
        loop.resume("resumed by the operator")
    elif name == "reset" and loop.error:
        _begin_clearing(loop)
    elif name in _EVENTS:
        loop.happen(_EVENTS[name], f"{name} by the operator")
    elif name in ("success", "failure"):
        loop.log.outcome(name == "success")
        loop.happen(Event.FINISH, f"marked as {name} by the operator")
    elif name in ("takeover", "give_back"):
        _hand_over(loop, arguments)
    else:
        _little_things(loop, name, arguments)


def _begin_clearing(loop: "ControlLoop") -> None:
    """A reset of an arm that has latched an error: that goes first, and takes the arm seconds."""
    if not loop.clearing:
        loop.clearing = loop.error
        loop.reason = f"reset by the operator: clearing {describe_error(loop.error)}"
        loop.release.clear_error()


def end_clearing(loop: "ControlLoop") -> None:
    """Resets if the error is gone by now; with one that stays, all stays as it is."""
    failure = loop.release.uncleared
    if not loop.clearing or failure is None:
        return
    text = failure or f"reset by the operator: {describe_error(loop.clearing)} was cleared"
    loop.clearing = 0
    loop.log.note(text)
    if not failure:
        loop.counts["error_cleared"] += 1
        loop.happen(Event.RESET, text)
    loop.reason = text  # also where a reset changes no mode


def _hand_over(loop: "ControlLoop", arguments: Mapping[str, Any]) -> None:
    """From source to person or back: always through a hold, so that no target is left over."""
    was_running = loop.mode is Mode.RUNNING
    how = arguments.get("how")
    text = f"take-over ({how})" if how else "give back"
    loop.happen(Event.HOLD, text)
    if how:
        loop.switch(loop.jogged if how == "jog" else loop.hand)
    else:
        loop.switch(loop.parts.source)
    loop.log.take_over(how is not None, text)
    # Taking over is a person's word to go on; a source goes on by itself only if it was moving.
    if how or was_running:
        loop.resume(text)


def _little_things(loop: "ControlLoop", name: str, arguments: Mapping[str, Any]) -> None:
    if name == "jog":
        loop.jogged.jog(arguments["joint"], arguments["change"])
    elif name == "gripper":
        loop.jogged.open_gripper(arguments["opening"])
    elif name == "note":
        loop.log.note(arguments["text"])
    elif name == "power_on":
        loop.release.power_on()
    elif name == "instruction":
        loop.log.instruction = arguments["text"]

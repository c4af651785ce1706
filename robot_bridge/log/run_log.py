"""What of a run goes into its episode log, and when: header, steps, markers, the end.

In: what the control loop did. Out: calls of a `Recorder`. An episode lasts from the first moment in
mode running to stop, finish, fault or e-stop; a hold interrupts it and is noted. Steps are ticks at
which something was commanded, or at which a hand moved the arm.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot_bridge.arm import STATE
from robot_bridge.log.episode_log import Header, Step
from robot_bridge.log.recorder import Log
from robot_bridge.loop.parts import Parts
from robot_bridge.loop.scene import Scene


class RunLog:
    """Keeps the log of one bridge, episode by episode; for the loop's thread.

    Args:
        parts: of the bridge; recorder: writes, or `Unrecorded`.

    Attributes:
        episode: number of the running or last episode, from 1; 0 before the first.
        instruction: the task of the next episode.
    """

    def __init__(self, parts: Parts, recorder: Log) -> None:
        self._parts, self._recorder = parts, recorder
        self._running = self._taken_over = False
        self.episode = 0
        self.instruction = parts.instruction
        self._identity: Mapping[str, Any] = {}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Of the arm, for header and status: what it said, and the parts' remarks about it."""
        return {**self._identity, **self._parts.remarks}

    @identity.setter
    def identity(self, said: Mapping[str, Any]) -> None:
        self._identity = said

    @property
    def trouble(self) -> str:
        """Why nothing more may be commanded now, "" for none."""
        return self._recorder.trouble()

    def begin(self) -> None:
        """An episode begins."""
        parts = self._parts
        header = Header(
            observation=parts.observation,
            # Steps come at the loop's rate, whatever rate the policy was trained at.
            action=dataclasses.replace(parts.action, rate_hz=parts.rate_hz),
            instruction=self.instruction,
            robot={"name": parts.robot.name, **self.identity},
            versions=dict(parts.versions),
            read_after_send=False,
        )
        self._recorder.begin(header)
        self._running, self._taken_over = True, False
        self.episode += 1

    def step(
        self,
        scene: Scene,
        command: np.ndarray,
        proposed: np.ndarray,
        source: str,
        command_time_ns: int,
        flags: Sequence[str],
    ) -> None:
        """Logs a tick: `command` [A] was sent (or done by a hand), `proposed` [A] was wanted."""
        observation = scene.observation
        if observation is None:
            raise ValueError("a step without observation cannot be logged")
        state = np.asarray(observation.vectors[STATE], np.float32)
        command = np.asarray(command, np.float32)
        changed = not np.array_equal(command, np.asarray(proposed, np.float32))
        measured = scene.reading is None or scene.reading.gripper_measured
        unmeasured = self._parts.with_gripper and not measured
        step = Step(
            # Of the look, not of the reading: an arm that missed a reply is seen twice the same.
            time_ns=scene.time_ns,
            vectors=dict(observation.vectors),
            frames={},
            command=command,
            source=source,
            command_time_ns=command_time_ns,
            proposed=np.asarray(proposed, np.float32) if changed else None,
            achieved=state,
            achieved_time_ns=observation.time_ns,
            flags=(*flags, *(("gripper_not_measured",) if unmeasured else ())),
        )
        self._recorder.step(step, observation.frames)

    def take_over(self, begins: bool, text: str) -> None:
        """A person takes the source's place, or gives it back."""
        if self._running and begins != self._taken_over:
            name = "intervention_begin" if begins else "intervention_end"
            self._recorder.marker(name, text)
            self._taken_over = begins

    def note(self, text: str) -> None:
        """Something worth reading later."""
        self._mark("note", text)

    def outcome(self, success: bool) -> None:
        """A person's verdict on the running episode."""
        self._mark("success" if success else "failure", "")

    def end(self, reason: str) -> None:
        """The episode is over; does nothing when none runs."""
        if self._running:
            self.take_over(False, reason)
            self.note(f"end: {reason}")
            self._recorder.end(reason)
            self._running = False

    def _mark(self, name: str, text: str) -> None:
        if self._running:
            self._recorder.marker(name, text)

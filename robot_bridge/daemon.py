"""The bridge as a running thing: assembles the loop and its threads, runs them, ends them safely.

In: `Parts`. Out: an arm that follows the source while nothing is wrong, status for whoever asks, an
episode log per run. Threads: this one's caller waits for signals; the loop keeps the clock; the
recorder writes; robot, source and cameras have their own. What happens in a tick is
`control_loop.py`'s business.
"""

from typing import Any

from robot_bridge.observations import Frame
from robot_bridge.parts import Parts


class Bridge:
    """A bridge; a context manager: entering connects, leaving holds and closes everything.

    Nothing moves before `command("start")`.

    Args:
        parts: what it is made of; the bridge owns and closes them.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    def open(self) -> None:
        """Connects the arm and starts the loop, in mode idle.

        Raises:
            RobotError: the arm is not ready; the message says what to do.
        """

    def run(self, duration_s: float | None = None) -> str:
        """Waits for SIGINT, SIGTERM, the end of the loop, or `duration_s`; returns which, in words.

        For the main thread only (signals). Holds the arm; `close` is still to be called.
        """

    def status(self) -> dict[str, Any]:
        """State of everything at the last tick, plain JSON values; never waits for the loop.

        Keys (times in the names' units; what is not there is None):
            time_ns, tick, mode, reason, rate_hz, joints (names, the gripper included),
            reading {angles [J] rad, gripper, gripper_measured, powered, error, age_ms},
            target [A], plan {offsets_s [H] from now, actions [H, A]},
            source {name, kind, takeover, ready, queries, chunks, late, skipped, latency_ms,
                last_error},
            robot {name, identity, connected, reads, failed_reads, writes, superseded, unanswered,
                reconnects, last_error},
            cameras {name: {height, width, age_ms}},
            interventions {name: count}, timing (see `clock.Timing.to_json`),
            ages_ms {reading, observation, policy},
            recorder {path, recording, steps, queued_bytes, trouble, lost_steps, episodes},
            episode {number, instruction}, commands [names that `command` takes in this mode].
        """

    def frame(self, camera: str) -> Frame | None:
        """The newest picture of a camera; None before the first; ValueError for an unknown name."""

    def command(self, name: str, **arguments: Any) -> None:
        """Asks for something; returns at once, the loop acts at its next tick.

        Commands: start (idle: approach, then run: an episode begins), stop (ends the run: idle),
        hold, resume, estop (latched), reset (after a fault or e-stop: idle), success and failure
        (mark the episode and end it), note(text), instruction(text) (of the next episode),
        takeover(how="jog" | "free") (a person instead of the source: by `jog` and `gripper`, or by
        hand with free joints), give_back (ends it), jog(joint, change) (rad, at most
        `operator.MAX_JOG_RAD`), gripper(opening) (0 ... 1).

        Raises:
            ValueError: unknown, wrong arguments, or not possible in this mode; says why.
        """

    def close(self) -> None:
        """Holds, ends the episode, stops all threads, closes all parts; twice does no harm."""

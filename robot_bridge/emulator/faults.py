"""What can go wrong with an arm and its wire, each as a switch (mycobot.md b.7, b.8).

`Faults` is a plain value: the healthy arm is `Faults()`, a test assigns another one to
`Emulator.faults` whenever it likes. `Dice` decides, reproducibly, which frames a fault strikes.
Events (disconnection, reboot, a pressed power button) are methods of the emulator and its ports.
"""

import dataclasses
from collections import Counter
from collections.abc import Collection

import numpy as np

from robot_bridge.wire.frames import MAX_LENGTH


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which frames a fault strikes.

    Attributes:
        share: of the frames, 0 ... 1, drawn at random.
        times: it ends after so many strikes; None: it stays until it is switched off.
        commands: only frames with these ids; None: all.
    """

    share: float = 1.0
    times: int | None = None
    commands: Collection[int] | None = None


ALWAYS = Rule()


@dataclasses.dataclass(frozen=True)
class Faults:
    """Everything that is wrong at the moment.

    Attributes:
        latency_s, jitter_s: added to each exchange; the second one at most, uniform.
        spike, spike_s: the controller does nothing for so long before it executes a frame.
        drop_reply: executed, but the reply is lost.
        no_ack: setters are executed and not acknowledged; questions are answered.
        late, late_s: the reply comes so much later, and those behind it after it.
        fragment, fragment_s: the reply comes in two pieces with this pause between them.
        echo: the request comes back before the reply, as on a one-wire line.
        noise: a few random bytes before the reply.
        truncate: of the reply only the header comes.
        oversize: the reply is 38 bytes long, more than the protocol knows.
        silent: hears and says nothing (cable pulled on the far side, controller hangs).
        gripper_unreadable: the gripper's value reads 255.
        gripper_stale: the gripper's value stays what it was.
        gripper_deaf_s: gripper commands so soon after an arm command are acknowledged and lost.
        lag_s: added to the joints' time constant.
        fresh_mode_stuck: the mode cannot be changed (acknowledged all the same).
        power_stuck: power_on does nothing (released e-stop is missing).
        error: what the error register shows whatever happens, 0 for the true value.
        servo_status: bit mask per joint; a servo with a bit set does not move.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    spike: Rule | None = None
    spike_s: float = 0.7
    drop_reply: Rule | None = None
    no_ack: Rule | None = None
    late: Rule | None = None
    late_s: float = 0.6
    fragment: Rule | None = None
    fragment_s: float = 0.01
    echo: Rule | None = None
    noise: Rule | None = None
    truncate: Rule | None = None
    oversize: Rule | None = None
    silent: bool = False
    gripper_unreadable: bool = False
    gripper_stale: bool = False
    gripper_deaf_s: float = 0.0
    lag_s: float = 0.0
    fresh_mode_stuck: bool = False
    power_stuck: bool = False
    error: int = 0
    servo_status: tuple[int, ...] = (0, 0, 0, 0, 0, 0)


class Dice:
    """Decides which frames are struck, and makes the noise; not for several threads.

    Attributes:
        struck: fault -> how often it struck, since the start.
    """

    def __init__(self, seed: int) -> None:
        self.struck: Counter[str] = Counter()
        self._left: dict[str, int] = {}
        self._random = np.random.default_rng(seed)

    def renew(self, faults: Faults) -> None:
        """New switches: the rules' `times` count anew."""
        rules = {name: getattr(faults, name) for name in vars(faults)}
        self._left = {
            name: rule.times
            for name, rule in rules.items()
            if isinstance(rule, Rule) and rule.times is not None
        }

    def strikes(self, faults: Faults, name: str, command: int) -> bool:
        """Whether fault `name` (a field with a Rule) strikes this frame."""
        rule: Rule | None = getattr(faults, name)
        if rule is None or (rule.commands is not None and command not in rule.commands):
            return False
        if self._left.get(name) == 0 or self._random.random() >= rule.share:
            return False
        if name in self._left:
            self._left[name] -= 1
        self.struck[name] += 1
        return True

    def jitter_s(self, faults: Faults) -> float:
        """A delay up to `jitter_s`."""
        return float(faults.jitter_s * self._random.random())

    def noise(self) -> bytes:
        """1 ... 6 bytes, half of them those that frames begin and end with."""
        size = int(self._random.integers(1, 7))
        special = self._random.choice([0xFE, 0xFA, 0x00], size)
        anything = self._random.integers(0, 256, size)
        return bytes(np.where(self._random.random(size) < 0.5, special, anything).tolist())


def oversized(command: int) -> bytes:
    """A reply that is longer than any frame: 38 data bytes."""
    data = bytes(38)
    assert len(data) + 2 > MAX_LENGTH
    return b"\xfe\xfe" + bytes((len(data) + 2, command)) + data + b"\xfa"

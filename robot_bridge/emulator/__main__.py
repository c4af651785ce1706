"""Runs the emulated arm alone: `python -m robot_bridge.emulator [--tcp] [--fault NAME ...]`.

Prints the port to give to `robot-bridge run --robot=...`, then what the arm receives (--verbose),
until it is interrupted; at the end the audit of everything that it was sent.
"""

import argparse
import contextlib
import dataclasses
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from robot_bridge.emulator.audit import audit
from robot_bridge.emulator.core import Emulator, EmulatorConfig
from robot_bridge.emulator.faults import Faults, Rule
from robot_bridge.emulator.pty_port import PtyPort
from robot_bridge.emulator.tcp_port import TcpPort

# Fields of `Faults` that are a Rule take the share of frames that they strike.
_RULES = tuple(f.name for f in dataclasses.fields(Faults) if "Rule" in str(f.type))
_NUMBERS = tuple(f.name for f in dataclasses.fields(Faults) if f.type in (float, int))
_SWITCHES = tuple(f.name for f in dataclasses.fields(Faults) if f.type is bool)
_EXAMPLES = """examples:
  python -m robot_bridge.emulator
  python -m robot_bridge.emulator --tcp --turnaround_ms 15
  python -m robot_bridge.emulator --fault drop_reply=0.05 --fault gripper_unreadable
"""


def parse_faults(given: Sequence[str]) -> Faults:
    """`name`, `name=share` or `name=number` each; raises ValueError naming what is wrong."""
    values: dict[str, bool | float | Rule] = {}
    for item in given:
        name, _, text = item.partition("=")
        try:
            number = float(text) if text else 1.0
        except ValueError:
            raise ValueError(f"--fault {item}: {text!r} is no number") from None
        if name in _RULES:
            values[name] = Rule(share=number)
        elif name in _NUMBERS:
            values[name] = int(number) if name == "error" else number
        elif name in _SWITCHES:
            values[name] = bool(number)
        else:
            known = ", ".join(sorted((*_RULES, *_NUMBERS, *_SWITCHES)))
            raise ValueError(f"--fault {item}: there are {known}")
    return Faults(**values)  # type: ignore[arg-type]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m robot_bridge.emulator",
        description="A myCobot 320 that exists on the wire only.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tcp", action="store_true", help="TCP as on the Pi, not a serial port")
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0: any free one")
    parser.add_argument(
        "--turnaround_ms", type=float, default=10.0, help="time to answer; the real one: 10 ... 30"
    )
    parser.add_argument("--fault", action="append", default=[], help="name or name=number")
    parser.add_argument("--seconds", type=float, help="end after this time")
    parser.add_argument("--verbose", action="store_true", help="print what the arm receives")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until interrupted; returns 1 when the audit found something unsafe."""
    parser = build_parser()
    flags = parser.parse_args(arguments)
    emulator = Emulator(EmulatorConfig(turnaround_s=flags.turnaround_ms / 1000))
    try:
        emulator.faults = parse_faults(flags.fault)
    except ValueError as error:
        parser.error(str(error))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with _opened(emulator, flags) as url:
        print(url, flush=True)
        _follow(emulator, ended, flags)
    violations = audit(emulator.journal.entries())
    print(f"{len(emulator.journal.entries())} entries, {len(violations)} unsafe")
    for violation in violations:
        print(violation)
    return 1 if violations else 0


@contextlib.contextmanager
def _opened(emulator: Emulator, flags: argparse.Namespace) -> Iterator[str]:
    """The port, as the bridge's --robot wants it."""
    if flags.tcp:
        with TcpPort(emulator, flags.port) as tcp:
            yield f"tcp:{tcp.address[0]}:{tcp.address[1]}"
    else:
        with PtyPort(emulator) as pty:
            yield f"serial:{pty.path}"


def _follow(emulator: Emulator, ended: threading.Event, flags: argparse.Namespace) -> None:
    """Waits for the end, printing what comes in."""
    began_ns = shown_ns = emulator.clock()
    while not ended.wait(0.2):
        if flags.verbose:
            for entry in emulator.journal.entries(shown_ns + 1):
                print(entry, flush=True)
                shown_ns = entry.time_ns
        if flags.seconds and emulator.clock() - began_ns > flags.seconds * 1e9:
            return


if __name__ == "__main__":
    sys.exit(main())

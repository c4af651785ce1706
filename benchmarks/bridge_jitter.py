"""How well does the bridge keep its clock while a policy uses all cores?

Per side a fresh emulated arm (a process of its own, on a pseudo-terminal), a policy server that
keeps every core busy (`bridge_policy.py`) and a bridge at --rate_hz that reads the arm, shows the
policy a 224x224 picture, checks, sends and records every step. Sides: "bridge" (`daemon.Bridge` as
it is) and "naive": the same tick, paced by `time.sleep` for the rest of the period, no priorities,
no care about garbage; and "bare": a clock without a bridge, at the same priority: what the machine
itself does to a thread. Lateness is against the intended begin of each tick. Examples:

    python benchmarks/bridge_jitter.py --minutes 0.5
    python benchmarks/bridge_jitter.py --minutes 10 --json benchmarks/results/bridge_NAME.json

Targets: p99 lateness <= 2 ms, no tick more than 20 ms late, memory flat.
"""

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SIDES = ("bridge", "naive", "bare")
PACKAGES = ("numpy", "websockets", "msgpack", "pyserial")
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
_READY_S = 120.0
_TARGET_P99_MS = 2.0


class Row(NamedTuple):
    """One side.

    Attributes:
        late_*: against the intended begin of a tick; very_late: more than 20 ms.
        skipped: grid points without a tick; steps: logged; lost_steps: not.
        rss_first_mb, rss_last_mb: resident memory a tenth into the run, and at its end.
        unsafe: findings of the emulator's audit.
        mode: at the end ("running" when nothing interrupted); reason: why.
    """

    side: str
    rate_hz: float
    minutes: float
    ticks: int
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    busy_p50_ms: float
    busy_p99_ms: float
    busy_max_ms: float
    very_late: int
    skipped: int
    steps: int
    lost_steps: int
    chunks: int
    rss_first_mb: float
    rss_last_mb: float
    unsafe: int
    mode: str
    reason: str
    scheduling: str


def parse(argv):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="per side; default %(default)s")
    add("--rate_hz", type=float, default=50.0, help="of the loop; default %(default)s")
    add("--policy_nice", type=int, default=10, help="niceness of the policy; default %(default)s")
    add("--sides", nargs="+", choices=SIDES, default=SIDES)
    add("--json", type=Path, help="write the results there")
    add("--measure", nargs=3, help=argparse.SUPPRESS)  # SIDE ROBOT POLICY, in a process of its own
    return parser.parse_args(argv)


def main(argv=None):
    """Runs the sides in turn and prints the table; 1 when the bridge misses a target."""
    flags = parse(argv)
    if flags.measure is not None:
        print(json.dumps(measure(*flags.measure, flags)), flush=True)
        return 0
    from hardware import hardware, write_report  # imports jax: not in a measured process

    machine = hardware(PACKAGES)
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average']:.1f}")
    rows = [run_side(side, flags) for side in flags.sides]
    print_table(rows)
    if flags.json:
        write_report(flags.json, machine, rows)
    ours = [row for row in rows if row.side == "bridge"]
    return int(any(row.late_p99_ms > _TARGET_P99_MS or row.very_late for row in ours))


def run_side(side, flags):
    """One side against an arm and a policy of its own."""
    emulator = [sys.executable, "-m", "robot_bridge.emulator", "--turnaround_ms", "5"]
    policy = ["nice", "-n", str(flags.policy_nice), sys.executable, "benchmarks/bridge_policy.py"]
    with started(emulator) as arm, started(policy) as server:
        me = [sys.executable, __file__, "--measure", side, first_line(arm), first_line(server)]
        me += ["--minutes", str(flags.minutes), "--rate_hz", str(flags.rate_hz)]
        done = subprocess.run(me, cwd=ROOT, env=environment(), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{side} failed:\n{done.stderr}")
        arm.terminate()
        audit = arm.stdout.read()
    found = json.loads(done.stdout.splitlines()[-1])
    unsafe = int(audit.splitlines()[0].split(",")[1].split()[0])
    return Row(**{**found, "unsafe": unsafe})


def environment():
    """One thread of linear algebra each: the burners are as many as the cores."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def started(command):
    """A child that ends when its standard input does, or is made to."""
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.stdin.close()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def first_line(child):
    """What a child says when it is ready."""
    ready, _, _ = select.select([child.stdout], [], [], _READY_S)
    line = child.stdout.readline().strip() if ready else ""
    if not line:
        raise SystemExit(f"{child.args} did not start")
    return line


def measure(side, robot, policy, flags):
    """Runs one side in this process; returns the row's fields but `unsafe`."""
    from bridge_sides import run_bare, run_bridge, run_naive

    with tempfile.TemporaryDirectory(prefix="bridge-jitter-") as folder:
        memory = Memory(60 * flags.minutes)
        runs = {"bridge": run_bridge, "naive": run_naive, "bare": run_bare}
        found = runs[side](robot, policy, Path(folder), flags, memory.look)
    fields = {"side": side, "rate_hz": flags.rate_hz, "minutes": flags.minutes, **found}
    return fields | {"rss_first_mb": memory.first_mb, "rss_last_mb": memory.last_mb}


class Memory:
    """Resident memory over a run of `seconds`."""

    def __init__(self, seconds):
        self._from = time.monotonic() + seconds / 10
        self.first_mb = self.last_mb = 0.0

    def look(self):
        """Call now and then, and at the end; never ends a run."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.last_mb = round(pages * _PAGE_MB, 1)
        if time.monotonic() < self._from or not self.first_mb:
            self.first_mb = self.last_mb
        return False


def print_table(rows):
    """The figures side by side."""
    names = [name for name in Row._fields if name != "side"]
    for name in ("side", *names):
        print(f"{name:14s}" + "".join(f"{getattr(row, name)!s:>34s}" for row in rows))


if __name__ == "__main__":
    sys.exit(main())

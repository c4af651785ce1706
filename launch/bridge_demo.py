"""From a policy to a moved arm and a dataset, without an arm: `make bridge-demo`.

Starts the emulated myCobot 320 on a pseudo-terminal, exports a policy, lets the arm show that it
follows a replay, runs the policy with the very command that a user types, starts it from the page
in a headless Chromium, takes pictures, stops it by a click on E-STOP, turns the log into RLDS and
validates that. Every result is checked; the exit status is 1 if one is not as it should be.

Examples:
    python -m launch.bridge_demo
    python -m launch.bridge_demo --seconds 20 --workdir runs/short_demo
    python -m launch.bridge_demo --artifact runs/my_arm/artifact
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from websockets.sync.client import connect

from launch.browser import Browser
from launch.program import ROOT, Program
from launch.quickstart import run_command
from robot_bridge.log.episode_log import EpisodeLog, read_log
from robot_bridge.web.web_messages import PROTOCOL

RATE_HZ = 10.0
DATASET = "bridge_demo"
# The policy is loaded and compiled, and rehearsed in the twin, before the page is there.
READY_S = 300.0
APPROACH_S = 60.0
# What a person may notice between click and stop; the machine of the demonstration may be busy.
STOP_S = 2.0
CONFIG = f"""
[loop]
rate_hz = {RATE_HZ}
[web]
port = 0
"""
CAMERA = """
[[camera]]
name = "top"
source = "{film}"
height = 240
width = 320
loop = true
"""


class Results:
    """What was checked, and whether all of it was as it should be."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, bool, str]] = []

    def check(self, name: str, good: bool, found: str) -> None:
        """Notes one result."""
        self.rows.append((name, good, found))

    @property
    def good(self) -> bool:
        """Whether everything was."""
        return all(good for _, good, _ in self.rows)

    def show(self) -> None:
        """The table of results."""
        table = Table(title="Results", title_justify="left")
        for heading in ("check", "found", ""):
            table.add_column(heading)
        for name, good, found in self.rows:
            table.add_row(name, found, "[green]good[/]" if good else "[bold red]NOT GOOD[/]")
        Console().print(table)


def read_status(url: str) -> dict[str, Any]:
    """The bridge's status, as its page gets it."""
    address, _, token = url.partition("/#token=")
    with connect(address.replace("http", "ws", 1) + "/socket", close_timeout=2) as page:
        page.send(json.dumps({"type": "hello", "version": PROTOCOL, "token": token}))
        while True:
            data = page.recv(timeout=30)
            if isinstance(data, str) and (message := json.loads(data))["type"] == "state":
                return message["status"]


def tap_twice(browser: Browser, selector: str) -> None:
    """Gives a command that moves the arm: the first tap asks, another one a moment later does."""
    browser.click(selector)
    time.sleep(0.6)
    browser.click(selector)


def drive(url: str, seconds: float, workdir: Path, results: Results) -> dict[str, Any]:
    """Starts, watches and stops the bridge from its page; returns the status before the stop."""
    with Browser() as browser:
        browser.resize(1280, 860)
        browser.open(url)
        browser.wait_for("document.body.dataset.link === 'live'")
        tap_twice(browser, "[data-command=start]")
        browser.wait_for("document.body.dataset.mode === 'running'", APPROACH_S)
        begun = time.monotonic()
        time.sleep(min(12.0, seconds / 2))
        browser.picture(workdir / "page.png")
        browser.resize(360, 740, 2, mobile=True)
        browser.set_dark(True)
        time.sleep(1)
        browser.picture(workdir / "page_phone.png", whole=False)
        browser.resize(1280, 860)
        browser.set_dark(False)
        time.sleep(max(0.0, begun + seconds - time.monotonic()))
        status = read_status(url)
        clicked = time.monotonic()
        browser.click("#estop")
        browser.wait_for("document.body.dataset.mode === 'estop'")
        stopped_s = time.monotonic() - clicked
        browser.wait_for("document.getElementById('estop-state').textContent === 'stopped'")
        browser.picture(workdir / "page_stopped.png")
        complaints = list(browser.complaints)
    results.check("still running before the stop", status["mode"] == "running", status["mode"])
    results.check("stopped by the page", stopped_s < STOP_S, f"{1000 * stopped_s:.0f} ms")
    results.check("the page has no errors", complaints == [], "; ".join(complaints) or "none")
    return status


def check_log(folder: Path, seconds: float, results: Results) -> EpisodeLog | None:
    """The one episode that was logged."""
    paths = sorted(folder.rglob("*.arplog"))
    results.check("one episode was logged", len(paths) == 1, str(len(paths)))
    if not paths:
        return None
    log = read_log(paths[0])
    expected = seconds * RATE_HZ
    results.check("the log is whole", log.damage is None and log.end is not None, log.state)
    results.check("it says why it ended", "estop" in str(log.end), str(log.end))
    results.check(
        "a step each tick", len(log.steps) >= 0.95 * expected,
        f"{len(log.steps)} of {expected:.0f}",
    )  # fmt: skip
    moved = max(step.command[0] for step in log.steps) - min(step.command[0] for step in log.steps)
    results.check("the arm was moved", moved > 0.2, f"joint 1 by {moved:.2f} rad")
    return log


def convert(logs: Path, out: Path, steps: int, results: Results) -> None:
    """The log as RLDS, validated by the project's own check."""
    run_command(["datasets/convert_bridge_log.py", str(logs), "--name", DATASET, "--out", str(out)])
    versions = [path.parent for path in out.rglob("dataset_info.json")]
    results.check(
        "converted to RLDS", len(versions) == 1, versions[0].parent.name if versions else "-"
    )
    report = out.parent / "validation.json"
    run_command(["-m", "arp_jax.data.validate", str(versions[0]), "--json", str(report)])
    found = json.loads(report.read_text())
    results.check("validated", True, f"no errors; {report.name}")
    counted = found.get("steps")
    if counted is not None:
        results.check("no step was lost", counted == steps, f"{counted} of {steps}")


def show_timing(status: dict[str, Any]) -> None:
    """The clock's table."""
    timing = status["timing"]
    table = Table(title=f"Timing at {status['rate_hz']:g} Hz", title_justify="left")
    for heading in ("", "p50", "p99", "max"):
        table.add_column(heading, justify="right")
    for name, words in (("late", "wake lateness"), ("busy", "work of a tick")):
        values = [f"{timing[f'{name}_{q}_ms']:.2f} ms" for q in ("p50", "p99", "max")]
        table.add_row(words, *values)
    Console().print(table)
    counts = ("ticks", "overruns", "skipped", "very_late")
    print(", ".join(f"{name} {timing[name]}" for name in counts))
    print(f"interventions: {status['interventions'] or 'none'}")


def write_config(workdir: Path) -> Path:
    """Settings of the bridge, with a camera where pictures can be drawn."""
    film, config = workdir / "film.avi", workdir / "bridge.toml"
    drawn = subprocess.run(
        [sys.executable, "-m", "launch.demo_camera", "--out", str(film)], cwd=ROOT, check=False
    )
    config.write_text(CONFIG + (CAMERA.format(film=film) if drawn.returncode == 0 else ""))
    return config


def run_demo(flags: argparse.Namespace, workdir: Path, results: Results) -> None:
    """Everything, in order."""
    artifact, logs = flags.artifact, workdir / "logs"
    if artifact is None:
        artifact = workdir / "artifact"
        run_command(["-m", "launch.demo_policy", "--out", str(artifact)])
    config = write_config(workdir)
    with Program("arm   ", ["-m", "robot_bridge.emulator"]) as emulator:
        port = emulator.wait_line(r"^serial:\S+", 60)[0]
        shown = workdir / "replay"
        arm = [f"--config={config}", f"--robot={port}", f"--set=replay_check.folder={shown}"]
        # No policy may move an arm that has not shown that it follows.
        example = ["--example", "--yes", "--no_web", f"--out={shown}"]
        run_command(["-m", "robot_bridge", "replay", *arm, *example])
        policy = [f"--policy={artifact}", f"--out={logs}", "--wait_for_start"]
        command = ["-m", "robot_bridge", "run", *arm, *policy]
        with Program("bridge", command) as bridge:
            url = bridge.wait_line(r"page: (\S+)", READY_S)[1]
            status = drive(url, flags.seconds, workdir, results)
            ended = bridge.interrupt()
        results.check("the bridge says that it was stopped", ended == 3, f"exit status {ended}")
        safe = emulator.interrupt()
        results.check("nothing unsafe on the wire", safe == 0, emulator.lines[-1])
    log = check_log(logs, flags.seconds, results)
    if log is not None:
        convert(logs, workdir / "rlds", len(log.steps), results)
    show_timing(status)
    timing = status["timing"]
    late = timing["overruns"] + timing["skipped"]
    results.check("the clock was kept", late <= 0.02 * timing["ticks"], f"{late} late ticks")


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/bridge_demo"))
    parser.add_argument("--seconds", type=float, default=60.0, help="of running; default 60")
    parser.add_argument(
        "--artifact", type=Path, metavar="DIR", help="another policy for the myCobot 320"
    )
    flags = parser.parse_args()
    workdir, results = flags.workdir.resolve(), Results()
    workdir.mkdir(parents=True, exist_ok=True)
    for name in ("artifact", "logs", "rlds", "replay"):  # of an earlier demonstration
        shutil.rmtree(workdir / name, ignore_errors=True)
    try:
        run_demo(flags, workdir, results)
    except (RuntimeError, TimeoutError, OSError, SystemExit) as error:
        results.check("the demonstration went through", False, str(error))
    results.show()
    print(f"pictures and logs: {workdir}")
    return 0 if results.good else 1


if __name__ == "__main__":
    sys.exit(main())

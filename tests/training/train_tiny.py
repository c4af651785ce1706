"""`python -m arp_jax.train` with the tiny policy in place of the real ones; run as a script.

--kill_while_saving=N ends the process with SIGKILL while checkpoint N is being written.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from absl import app, flags

from arp_jax.policies import base
from tests.training.tiny_policy import build_tiny

base.build_policy = build_tiny

from arp_jax import train  # noqa: E402 - after the policy was put in place

KILL = flags.DEFINE_integer("kill_while_saving", 0, "Checkpoint during which to die.")


def die_while_saving(step: int) -> None:
    """Waits for the unfinished folder of checkpoint `step`, then ends the process at once."""
    folder = Path(train.WORKDIR.value) / "checkpoints"
    while not any(folder.glob(f"{step}.*")):
        time.sleep(0.0005)
    os.kill(os.getpid(), signal.SIGKILL)


def main(argv: list[str]) -> None:
    if KILL.value:
        threading.Thread(target=die_while_saving, args=(KILL.value,), daemon=True).start()
    train.main(argv)


if __name__ == "__main__":
    app.run(main, flags_parser=train.parse_flags)

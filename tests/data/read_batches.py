"""Reads batches of a pack and notes what each was; run as a script that may be killed.

    read_batches.py PACK LOG BATCHES

LOG gets a line "position digest" a batch; a second start continues behind the last whole line, as
training does behind its last checkpoint.
"""

import hashlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from arp_jax.data.loader import Batch, Loader
from arp_jax.data.pack import open_pack
from arp_jax.data.prefetch import prefetch
from arp_jax.normalize import affine_from_limits
from arp_jax.specs import PolicySpec


def digest(batch: Batch) -> str:
    """SHA-256 of all arrays of a batch, in the order of their names."""
    found = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                found.update(key.encode())
                add(value[key])
        else:
            found.update(np.ascontiguousarray(value))

    add(batch)
    return found.hexdigest()


def note(log: Path, line: str) -> None:
    """Appends a line in one piece."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def lines(log: Path) -> list[str]:
    """The whole lines of a log, which may not be there yet."""
    text = log.read_text() if log.is_file() else ""
    return [line.rstrip("\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]


def main(pack_dir: str, log: Path, batches: int) -> None:
    pack = open_pack(pack_dir, memory_budget=1 << 12)
    spec = PolicySpec(pack.observation_spec, pack.action_spec, 2, 4, 0)
    limits = affine_from_limits([0, 0], [512, 512])
    normalizer = {"agent_pos": limits, "action": limits}
    position = len(lines(log))
    loader = Loader(pack, spec, normalizer, batch_size=8, seed=3, position=position)
    with prefetch(loader, depth=2) as stream:
        for at in range(position, batches):
            note(log, f"{at} {digest(next(stream))}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

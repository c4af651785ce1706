"""`python -m arp_jax.train` with the tiny policy, noting every batch that it reads; a script.

The log of `read_batches.py` goes to the file named by BATCH_LOG: "examples position digest".
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from absl import app

from arp_jax.data.loader import Batch, Loader
from tests.data.read_batches import digest, note
from tests.training import train_tiny

read = Loader.read


def read_and_note(self: Loader, stream: np.ndarray) -> Batch:
    batch = read(self, stream)
    # Training and held-out episodes have loaders of their own, of different sizes.
    note(Path(os.environ["BATCH_LOG"]), f"{self.num_windows} {stream[0]} {digest(batch)}")
    return batch


if __name__ == "__main__":
    Loader.read = read_and_note
    app.run(train_tiny.main, flags_parser=train_tiny.train.parse_flags)

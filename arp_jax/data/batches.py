"""What training asks of its data, whether packed or streamed.

`loader.BatchStream` (packs, exactly resumable) and `streamed.StreamedBatches` (approximately) offer
it. Nothing is read or kept here.
"""

from typing import Protocol

from arp_jax.data.examples import Batch
from arp_jax.data.prefetch import Positioned


class Batches(Protocol):
    """An endless stream of batches that can be begun at any position."""

    def starting_at(self, position: int) -> Positioned:
        """The batches from `position` on; exactly or approximately, as the data can."""
        ...

    def sample(self) -> Batch:
        """Some batch, with the form of all; whoever reads the stream goes on undisturbed."""
        ...

    def batch_at(self, position: int) -> Batch | None:
        """The batch that stands at `position`, or None where it cannot be read a second time."""
        ...

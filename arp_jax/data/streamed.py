"""The batches of a run that streams its data: a `Streamer` begun wherever the run stands.

Flows in: everything that a `Streamer` takes but the position. Flows out: `Batches`. What a stream
repeats and what it leaves out when it is resumed is said in `stream.py`.
"""

import dataclasses
from collections.abc import Mapping

from arp_jax.data.examples import Batch
from arp_jax.data.stream import Streamer
from arp_jax.data.stream_member import StreamConfig, StreamMember
from arp_jax.normalize import Affine
from arp_jax.specs import PolicySpec

# For a look at the data: so little that episodes are read one at a time.
_SMALLEST_MB = 1e-6


@dataclasses.dataclass(frozen=True)
class StreamedBatches:
    """Arguments of `Streamer`, checked when this is made.

    Attributes:
        members, policy_spec, normalizer, batch_size, seed, host, config: see `Streamer`.
    """

    members: tuple[StreamMember, ...]
    policy_spec: PolicySpec
    normalizer: Mapping[str, Affine]
    batch_size: int
    seed: int
    host: tuple[int, int] = (0, 1)
    config: StreamConfig = dataclasses.field(default_factory=StreamConfig)

    def __post_init__(self) -> None:
        self.starting_at(0)  # raises for what does not belong together; reads nothing

    def starting_at(self, position: int) -> Streamer:
        """The stream from about batch `position` on; the same one each time it is asked for."""
        return self._streamer(self.config, position)

    def sample(self) -> Batch:
        """A batch of the first episodes, of a stream of its own with hardly any buffer."""
        smallest = dataclasses.replace(self.config, buffer_mb=_SMALLEST_MB)
        return next(self._streamer(smallest, 0))

    def batch_at(self, position: int) -> Batch | None:
        """None: a stream is not read a second time."""
        return None

    def _streamer(self, config: StreamConfig, position: int) -> Streamer:
        return Streamer(
            self.members,
            self.policy_spec,
            self.normalizer,
            self.batch_size,
            self.seed,
            position,
            self.host,
            config,
        )

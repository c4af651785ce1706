"""The `data` section of the config: where the data are, how they are cut, normalised and mixed.

Flows in: plain values. Flows out: a frozen `DataConfig`, checked as far as no file is needed. What
is done with it is `packs.py`, `members.py`, `streams.py` and `inputs.py`.
"""

import dataclasses
from collections.abc import Mapping

from arp_jax.data.mixes import Mix, find_mix, override
from arp_jax.data.stream_member import StreamConfig
from arp_jax.data.stream_records import READERS
from arp_jax.data.task import TaskConfig

# Sources that a run writes into its own directory; train.py says by what.
SYNTHETIC, DIGITS = "synthetic", "digits"
BUILT_IN = (SYNTHETIC, DIGITS)
STATS_OF = ("", "target", "all")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The `data` section.

    Attributes:
        source: an RLDS dataset folder (features.json), a pack (meta.json), or one of `BUILT_IN`:
            "synthetic" (random curves for debugging) or "digits" (scikit-learn's, as a pen). With
            a mixture, the folder in which its members lie. RLDS may lie at a URL ("gs://...").
        split: split of an RLDS source, or a part of it ("train[:90]").
        pack_dir: where an RLDS source is packed to; "" is RUN/pack. The statistics of a stream are
            kept there; "" is RUN/stream.
        resize: "CAMERA=HEIGHTxWIDTH,...": sizes in which cameras are packed or streamed; "" keeps
            them.
        normalization: feature -> "limits" (of its spec), "standard", "min_max" or "quantile" (of
            its statistics); every vector feature that is observed, and "action".
        augment: device-side augmentation ("push_t_mirror"); "" means none.
        pad_after: actions of a chunk that may lie behind the episode's end; -1 means all but one.
        stride: every stride-th step of an episode starts an example.
        goal: goals in the batch: "uniform", "hindsight" or "" for none.
        language: instructions in the batch; their vectors too, where every member stores them.
        language_dropout: share of the examples that go without.
        validation_fraction: share of episodes held out (of a mixture's target, as the others are
            all for training); -1 is what the mix has published.
        split_seed: draws the held-out episodes; not the run's seed, so that runs are comparable.
            A stream holds out the last episodes of the split instead, whatever the seed.
        max_train_episodes: 0 means all that are not held out; of a mixture's target. A stream takes
            the first ones.
        prefetch: batches prepared ahead by a thread.
        memory_budget_mb: the pack is kept in memory up to this size, the rest is read as needed;
            members of a mixture share it.
        mixture: a name of `mixes.MIXES` or "PATH=WEIGHT,PATH=WEIGHT"; "" is no mixture.
        mixture_weights: "draw", "step" or "episode" (`mixes.WEIGHTINGS`); "" as the mix says.
        mixture_differences: what members may differ in, "rate,limits,frame"; "" as the mix says.
        stats: whose statistics normalise a mixture: "target", "all", or "" as the mix says.
        stream: train from `arp_jax.data.stream` instead of a pack: for sets too large to pack. RLDS
            sources only; resumed approximately.
        stream_buffer_mb: memory in MiB for the episodes among which windows are shuffled.
        stream_cycle: shards of a dataset that are read alternately.
        stream_reader: "tensorflow" (tf.data, in threads; needs the extra tf) or "python" (without
            it, from a disk). The batches are the same.
    """

    source: str
    split: str = "train"
    pack_dir: str = ""
    resize: str = ""
    normalization: Mapping[str, str] = dataclasses.field(default_factory=dict)
    augment: str = ""
    pad_after: int = -1
    stride: int = 1
    goal: str = ""
    language: bool = False
    language_dropout: float = 0.0
    validation_fraction: float = 0.02
    split_seed: int = 42
    max_train_episodes: int = 0
    prefetch: int = 2
    memory_budget_mb: int = 2048
    mixture: str = ""
    mixture_weights: str = ""
    mixture_differences: str = ""
    stats: str = ""
    stream: bool = False
    stream_buffer_mb: float = 1024
    stream_cycle: int = 8
    stream_reader: str = "tensorflow"

    def __post_init__(self) -> None:
        if self.prefetch < 1 or self.memory_budget_mb < 0 or self.max_train_episodes < 0:
            raise ValueError("prefetch must be >= 1, memory_budget_mb, max_train_episodes >= 0")
        if self.stream_reader not in READERS:
            raise ValueError(
                f"stream_reader {self.stream_reader!r} is unknown; choose one of {READERS}"
            )
        if self.stream_buffer_mb <= 0 or self.stream_cycle < 1:
            raise ValueError("stream_buffer_mb must be positive, stream_cycle >= 1")
        if self.stats not in STATS_OF:
            raise ValueError(f"stats {self.stats!r} is unknown; choose one of {STATS_OF}")
        if self.mixture and self.source in BUILT_IN:
            raise ValueError(
                f"source {self.source!r} is no place for the members of a mixture; "
                "name the folder in which they lie"
            )
        only_mixed = {name: getattr(self, name) for name in ("mixture_weights", "stats")}
        for name, value in only_mixed.items():
            if value and not self.mixture:
                raise ValueError(f"{name} {value!r} is about a mixture; set mixture too")
        # Fail now, not after packing.
        self.task  # noqa: B018
        self.mix  # noqa: B018
        if self.validation_fraction == -1 and (
            self.mix is None or self.mix.validation_fraction is None
        ):
            raise ValueError("validation_fraction -1 needs a mix that has published one")

    @property
    def task(self) -> TaskConfig:
        """What batches say about the task."""
        return TaskConfig(self.goal, self.language, self.language_dropout)

    def padding(self, horizon: int) -> int | None:
        """`pad_after` for chunks of `horizon` actions, as `window_table` takes it."""
        return None if self.pad_after < 0 else min(self.pad_after, horizon - 1)

    def streaming(self, horizon: int) -> StreamConfig:
        """How a stream is read for chunks of `horizon` actions."""
        return StreamConfig(
            buffer_mb=self.stream_buffer_mb,
            cycle=self.stream_cycle,
            reader=self.stream_reader,
            pad_after=self.padding(horizon),
            stride=self.stride,
            differences=self.mix.differences if self.mix is not None else (),
            task=self.task,
        )

    @property
    def mix(self) -> Mix | None:
        """The mixture with what this section overrides; None where there is none."""
        if not self.mixture:
            return None
        mix = override(find_mix(self.mixture), self.mixture_weights, self.mixture_differences)
        if self.stats == "target":
            return dataclasses.replace(mix, stats=(mix.members[0][0],))
        return dataclasses.replace(mix, stats=()) if self.stats == "all" else mix

    @property
    def held_out_fraction(self) -> float:
        """Share of the (target's) episodes held out."""
        if self.validation_fraction == -1 and self.mix is not None:
            return self.mix.validation_fraction or 0.0
        return self.validation_fraction

"""How likely a policy finds recorded behaviour: nats per token, step by step of an episode.

Flows in: a policy that offers `log_prob(params, batch) -> {token type: [B, N]}`, its parameters and
normaliser, episodes as stacked arrays or one drawn trajectory, in physical units. Flows out:
`EpisodeLikelihood`s. A teacher-forced score, not a measure of success: `rollout.py` is. Tables and
pictures are `likelihood_report.py`.

Densities are per *normalised* unit. For continuous tokens, the density per physical unit is the
score minus the sum of log(scale) of the action's normaliser, once for every scored action.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.data.rlds import Episode, RldsDataset
from arp_jax.data.windows import window_table
from arp_jax.normalize import Affine, normalize, normalize_observation
from arp_jax.policies.base import Batch, Params, Policy
from arp_jax.policies.plan_labels import resample_path
from arp_jax.specs import PolicySpec, check_match

ALTERATIONS = ("reversed", "shuffled")

ScoreFn = Callable[[Params, Batch], tuple[dict[str, jax.Array], dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class EpisodeLikelihood:
    """Scores of one episode; T steps, N tokens of a type in a chunk.

    Attributes:
        episode: number of the episode in its split.
        log_prob: token type -> float32 [T, N], nats; 0 where a token is not scored.
        scored: token type -> bool [T, N]; False for tokens beyond the episode's ends.
        actions: int [T], recorded actions inside the chunk of each step.
        action_size: A, numbers in an action.
    """

    episode: int
    log_prob: dict[str, np.ndarray]
    scored: dict[str, np.ndarray]
    actions: np.ndarray
    action_size: int

    def __len__(self) -> int:
        return len(self.actions)

    def sums(self, name: str) -> np.ndarray:
        """Nats of one token type at each step, float64 [T]."""
        return self.log_prob[name].sum(1, dtype=np.float64)

    def counts(self, name: str) -> np.ndarray:
        """Scored tokens of one type at each step, int [T]."""
        return self.scored[name].sum(1)

    @property
    def total(self) -> np.ndarray:
        """Nats of all scored tokens at each step, float64 [T]."""
        return np.sum([self.sums(name) for name in self.log_prob], axis=0)

    @property
    def per_action_dim(self) -> np.ndarray:
        """`total` divided by the numbers of the chunk's recorded actions, float64 [T]."""
        return self.total / np.maximum(self.actions * self.action_size, 1)

    @property
    def score(self) -> float:
        """Nats per action number over the whole episode: one number to compare episodes by."""
        return float(self.total.sum() / (self.actions.sum() * self.action_size))

    def mean_per_token(self, name: str) -> float:
        """Mean nats of the scored tokens of one type; NaN when there are none."""
        count = self.counts(name).sum()
        return float(self.sums(name).sum() / count) if count else float("nan")

    @property
    def excluded(self) -> int:
        """Tokens left out because they lie beyond the episode's ends."""
        return int(sum((~scored).sum() for scored in self.scored.values()))

    def least_likely(self, count: int, apart: int) -> list[int]:
        """Steps of the lowest `per_action_dim`, worst first, at least `apart` steps apart."""
        chosen: list[int] = []
        for t in np.argsort(self.per_action_dim, kind="stable"):
            if all(abs(int(t) - other) >= apart for other in chosen):
                chosen.append(int(t))
            if len(chosen) == count:
                break
        return chosen


def make_score_fn(policy: Policy) -> ScoreFn:
    """(params, batch) -> (log-probabilities, scored?), {token type: [B, N]} each; jitted.

    The policy says itself which tokens stand for recorded actions if it offers
    `scored_tokens(batch)`; otherwise a type with one token an action follows `action_is_pad` and
    every other type is scored throughout.

    Raises:
        ValueError: the policy has no `log_prob`.
    """
    log_prob = getattr(policy, "log_prob", None)
    if log_prob is None:
        raise ValueError(
            f"{type(policy).__name__} has no log_prob: it cannot say how likely an action is"
        )

    @jax.jit
    def score(params: Params, batch: Batch) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        found = log_prob(params, batch)
        is_pad = batch["action_is_pad"]  # [B, H]
        if hasattr(policy, "scored_tokens"):
            return found, policy.scored_tokens(batch)
        same = {name: x.shape == is_pad.shape for name, x in found.items()}
        scored = {n: ~is_pad if same[n] else jnp.ones(x.shape, bool) for n, x in found.items()}
        return found, scored

    return score


def episode_batches(
    episode: Episode, spec: PolicySpec, normalizer: Mapping[str, Affine], batch_size: int
) -> Iterator[tuple[Batch, int]]:
    """One example for every step of an episode, in order.

    Args:
        episode: {"observation": {name: [T, ...]}, "action": [T, A]}, physical units.
        spec: the policy's W, H and action offset; see `arp_jax.data.windows`.
        normalizer: maps of the vector observations and of "action".
        batch_size: examples in a batch; the last batch repeats its last example to be as large.

    Yields:
        (batch of the training pipeline's form, number of its examples that count).
    """
    action = normalize(np.asarray(episode["action"], np.float32), normalizer["action"])
    table = window_table([len(action)], spec.window, spec.horizon, spec.action_offset)
    for start in range(0, len(table), batch_size):
        ids = np.arange(start, min(start + batch_size, len(table)))
        padded = np.r_[ids, np.full(batch_size - len(ids), ids[-1])]
        steps = table.observation_steps(padded)
        observation = {n: episode["observation"][n][steps] for n in spec.observation.names}
        yield (
            {
                "observation": normalize_observation(observation, normalizer),
                "action": action[table.action_steps(padded)],
                "action_is_pad": table.action_is_pad(padded),
            },
            len(ids),
        )


def score_episode(
    score: ScoreFn,
    params: Params,
    episode: Episode,
    spec: PolicySpec,
    normalizer: Mapping[str, Affine],
    number: int = 0,
    batch_size: int = 32,
) -> EpisodeLikelihood:
    """Scores the recorded chunk at every step of one episode; see `episode_batches`.

    Raises:
        ValueError: a log-probability is not finite; the message names episode and step.
    """
    found: dict[str, list[np.ndarray]] = {}
    scored: dict[str, list[np.ndarray]] = {}
    actions = []
    for batch, count in episode_batches(episode, spec, normalizer, batch_size):
        values, masks = jax.device_get(score(params, jax.tree.map(jnp.asarray, batch)))
        for name, value in values.items():
            scored.setdefault(name, []).append(masks[name][:count])
            found.setdefault(name, []).append(np.where(masks[name], value, 0)[:count])
        actions.append((~batch["action_is_pad"][:count]).sum(1))
    log_prob = {name: np.concatenate(parts) for name, parts in found.items()}
    for name, value in log_prob.items():
        if not np.isfinite(value).all():
            step = int(np.argwhere(~np.isfinite(value))[0, 0])
            raise ValueError(f"episode {number}, step {step}: log-probability of {name!r} is NaN")
    return EpisodeLikelihood(
        episode=number,
        log_prob=log_prob,
        scored={name: np.concatenate(parts) for name, parts in scored.items()},
        actions=np.concatenate(actions),
        action_size=spec.action.size,
    )


def dataset_episodes(
    dataset: RldsDataset,
    split: str,
    spec: PolicySpec,
    chosen: Iterable[int] | None = None,
    cameras: Iterable[str] = (),
) -> Iterator[tuple[int, Episode]]:
    """Reads the episodes that a policy can be scored on.

    Args:
        dataset: an opened RLDS folder.
        split: e.g. "train" or "train[:4]".
        spec: the policy's signature; the dataset must mean the same by it.
        chosen: numbers within the split; None takes all.
        cameras: image observations to read besides those of the policy.

    Yields:
        (number within the split, episode).

    Raises:
        ValueError: an episode that does not exist, or a dataset without specs.json.
        SpecMismatch: the dataset's observations or actions are not the policy's.
    """
    if dataset.specs is None:
        raise ValueError(f"{dataset.path}: no specs.json, so nothing says what its numbers mean")
    where = f"policy and dataset {dataset.path}"
    offered = dataset.specs.observation.select(spec.observation.names)
    check_match(spec.observation, offered, where)
    check_match(spec.action, dataset.specs.action, where)
    count = dataset.num_episodes(split)
    wanted = set(range(count)) if chosen is None else set(chosen)
    outside = sorted(n for n in wanted if not 0 <= n < count)
    if outside:
        raise ValueError(f"--episodes {outside[0]}: {split!r} has episodes 0 .. {count - 1}")
    fields = [*(f"observation/{n}" for n in {*spec.observation.names, *cameras}), "action"]
    for number, episode in enumerate(dataset.episodes(split, fields)):
        if number in wanted:
            yield number, episode
        if number == max(wanted):
            return  # nothing behind the last one needs to be decoded


def altered(episode: Episode, how: str, seed: int = 0) -> Episode:
    """The episode with its actions in another order in time; observations stay as they were.

    What a policy must find less likely than the recording, if its likelihoods mean anything.

    Args:
        episode: as `episode_batches` reads it.
        how: one of `ALTERATIONS`.
        seed: of the shuffled order.
    """
    action = np.asarray(episode["action"])
    order = np.arange(len(action))[::-1]
    if how == "shuffled":
        order = np.random.default_rng(seed).permutation(len(action))
    elif how != "reversed":
        raise ValueError(f"alteration {how!r} is unknown; choose one of {ALTERATIONS}")
    return {**episode, "action": action[order]}


def action_log_prob(
    score: ScoreFn,
    params: Params,
    spec: PolicySpec,
    normalizer: Mapping[str, Affine],
    observation: Mapping[str, Any],
    actions: np.ndarray,
) -> dict[str, np.ndarray]:
    """Log-likelihood of drawn trajectories for one observation.

    Args:
        score: from `make_score_fn(policy)`; one compiled program, however many paths are drawn.
        params, spec, normalizer: as of a loaded run.
        observation: {name: [W, ...]} in physical units, images uint8; W = 1 entries are repeated.
        actions: one path [points, A] or several [n, points, A] in physical units. A path has any
            number of points; it is resampled linearly to the horizon, end points kept.

    Returns:
        {token type: float32 [n, N]} in nats; sum over everything for the likelihood of a path.

    Raises:
        ValueError: the actions have another number of dimensions than the policy's.
    """
    paths = np.asarray(actions, np.float32)
    paths = paths[None] if paths.ndim == 2 else paths  # [n, points, A]
    if paths.ndim != 3 or paths.shape[-1] != spec.action.size:
        raise ValueError(
            f"actions must be [points, {spec.action.size}] or [n, points, {spec.action.size}], "
            f"found {np.shape(actions)}"
        )
    chunk = resample_path(jnp.asarray(paths), spec.horizon)
    repeated = {
        name: np.repeat(_window(observation[name], spec.window)[None], len(paths), axis=0)
        for name in spec.observation.names
    }
    batch = {
        "observation": normalize_observation(repeated, normalizer),
        "action": normalize(np.asarray(chunk), normalizer["action"]),
        "action_is_pad": np.zeros(chunk.shape[:2], bool),
    }
    found, _ = score(params, jax.tree.map(jnp.asarray, batch))
    return {name: np.asarray(value) for name, value in found.items()}


def _window(frames: Any, window: int) -> np.ndarray:
    """[W, ...] as it is, [1, ...] repeated W times."""
    frames = np.asarray(frames)
    return np.repeat(frames, window, axis=0) if len(frames) == 1 else frames

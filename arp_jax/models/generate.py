"""Drawing sequences: prompt and contexts in, completed sequences (and their likelihood) out.

Pure functions over a parameter tree; jit them with the model, the schedule and the length of the
prompt static. Values of prompts, guides, contexts, keys and sampling rules may change without a new
trace. How a chunk is decoded is ``decoder``; what a token means is the policy's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ChunkTransformer
from arp_jax.models.decode_inputs import ChunkContexts, Guide, Inputs, Picker
from arp_jax.models.decoder import Decoder, Values
from arp_jax.models.sampling import Sampling

__all__ = [
    "ChunkContexts",
    "Drawn",
    "Generation",
    "Guide",
    "Sampling",
    "best_of",
    "generate",
    "generate_scored",
    "generate_with_trace",
]

Rules = Sampling | Mapping[str, Sampling]
Contexts = Mapping[str, jax.Array | ChunkContexts | None]
MODE = Sampling()


@struct.dataclass
class Drawn:
    """Sequences and how likely the model finds them.

    Attributes:
        values: [B, L, D] or [B, N, L, D].
        log_prob: [B, L] or [B, N, L]: log-likelihood of each predicted token given all earlier
            chunks, under the model's own distribution (no temperature, nothing cut off). Tokens
            fixed by a guide are scored too; 0 for prompts, control tokens and wholly given chunks.
    """

    values: jax.Array
    log_prob: jax.Array


@dataclass
class Generation:
    """What ``generate_with_trace`` found: the values and, per predicted chunk, how they arose."""

    values: jax.Array
    steps: list[dict[str, Any]] = field(default_factory=list)


def generate(
    model: ChunkTransformer,
    params: Mapping[str, Any],
    prompt: jax.Array,
    schedule: ChunkSchedule,
    contexts: Contexts,
    rng: jax.Array | None = None,
    sampling: Rules = MODE,
    *,
    given: Mapping[int, float | jax.Array] | None = None,
    guide: Guide | None = None,
    num_samples: int | None = None,
    statistics: Mapping[str, Any] | None = None,
    pickers: Mapping[int, Picker] | None = None,
) -> jax.Array:
    """Complete a prompt.

    Args:
        model: the network; ``params`` its parameters (``model.init_params``).
        prompt: [B, P, D] values of the first P positions; P must end a chunk, P = 0 is allowed.
        schedule: layout of all L positions.
        contexts: as in training; ``ChunkContexts`` where one differs between chunks (the past is
            then encoded again under the new contexts).
        rng: key; needed when anything is sampled.
        sampling: one rule, or one per token type name (missing types take the mode).
        given: {position: number or [B, dim]}: values of control tokens after the prompt, and of any
            other tokens known beforehand. Nothing is computed for a chunk that is wholly given.
        guide: values to keep for any subset of the tokens, chosen per sample: a person draws the
            way-points, the policy fills in the actions.
        num_samples: draw N sequences per observation; what depends on the observation alone is
            computed once.
        statistics: {token type: running batch-norm statistics}, for heat-map heads with corr_dim.
        pickers: {chunk: f(predictions per position, rng) -> codes [B, n, D]}, a custom choice. The
            predictions are class logits [B, dim, K], pixel logits [B, H, W] or raw Gaussian output.

    Returns:
        [B, L, D] float32, or [B, N, L, D] with ``num_samples``; binned types come back as bin
        centres.

    Raises:
        ValueError: prompt, schedule, contexts, guide, statistics or rng do not fit together; or a
            guide that is not traced holds a value outside what its token type allows.
    """
    given_all = Inputs(given or {}, guide, statistics or {}, pickers or {})
    arguments = (model, params, prompt, schedule, contexts, rng, sampling, given_all)
    return _draw(*arguments, num_samples, scored=False).values


def generate_scored(
    model: ChunkTransformer,
    params: Mapping[str, Any],
    prompt: jax.Array,
    schedule: ChunkSchedule,
    contexts: Contexts,
    rng: jax.Array | None = None,
    sampling: Rules = MODE,
    *,
    given: Mapping[int, float | jax.Array] | None = None,
    guide: Guide | None = None,
    num_samples: int | None = None,
    statistics: Mapping[str, Any] | None = None,
    pickers: Mapping[int, Picker] | None = None,
) -> Drawn:
    """``generate`` with the log-likelihood of every token; same arguments and errors."""
    given_all = Inputs(given or {}, guide, statistics or {}, pickers or {})
    arguments = (model, params, prompt, schedule, contexts, rng, sampling, given_all)
    found = _draw(*arguments, num_samples, scored=True)
    assert found.log_prob is not None
    return Drawn(found.values, found.log_prob)


def best_of(drawn: Drawn) -> Drawn:
    """The likeliest of N samples per observation: [B, N, L, ...] -> [B, L, ...]."""
    if drawn.log_prob.ndim != 3:
        raise ValueError(
            f"best_of needs [B, N, L] likelihoods, found {drawn.log_prob.shape}; pass num_samples "
            "to generate_scored"
        )
    best = jnp.argmax(drawn.log_prob.sum(-1), axis=1)  # [B]

    def choose(x: jax.Array) -> jax.Array:
        return jnp.take_along_axis(x, best.reshape(-1, *[1] * (x.ndim - 1)), axis=1)[:, 0]

    return Drawn(choose(drawn.values), choose(drawn.log_prob))


def generate_with_trace(
    model: ChunkTransformer,
    params: Mapping[str, Any],
    prompt: jax.Array,
    schedule: ChunkSchedule,
    contexts: Contexts,
    rng: jax.Array | None = None,
    sampling: Rules = MODE,
    given: Mapping[int, float | jax.Array] | None = None,
    statistics: Mapping[str, Any] | None = None,
    pickers: Mapping[int, Picker] | None = None,
) -> Generation:
    """``generate`` with the embeddings, hidden rows and raw predictions of every chunk.

    Every chunk is compiled apart, so it is meant for looking and for tests, not for speed.
    """
    given_all = Inputs(given or {}, None, statistics or {}, pickers or {})
    decoder = Decoder(model, params, schedule, contexts, _rules(model, sampling), given_all)
    prompt = _checked_prompt(prompt, schedule)
    _check_key(rng, decoder.rules)
    steps: list[dict[str, Any]] = []
    return Generation(decoder.run(prompt, rng, scored=False, trace=steps).values, steps)


def _draw(
    model: ChunkTransformer,
    params: Mapping[str, Any],
    prompt: jax.Array,
    schedule: ChunkSchedule,
    contexts: Contexts,
    rng: jax.Array | None,
    sampling: Rules,
    given: Inputs,
    num_samples: int | None,
    scored: bool,
) -> Values:
    decoder = Decoder(model, params, schedule, contexts, _rules(model, sampling), given)
    prompt = _checked_prompt(prompt, schedule)
    _check_key(rng, decoder.rules)
    if num_samples is None:
        return decoder.run(prompt, rng, scored)
    if num_samples < 1 or rng is None:
        raise ValueError(f"num_samples must be >= 1 and needs an rng key, found {num_samples}")
    keys = jax.random.split(rng, num_samples)
    # Only what depends on a key gets the sample axis: the observation and the prompt do not.
    return jax.vmap(lambda key: decoder.run(prompt, key, scored), out_axes=1)(keys)


def _rules(model: ChunkTransformer, sampling: Rules) -> dict[str, Sampling]:
    """One rule per token type; ValueError for a rule of an unknown type."""
    names = [token.name for token in model.config.tokens]
    if isinstance(sampling, Sampling):
        return {name: sampling for name in names}
    for name in sampling:
        model.config.token_id(name)
    return {name: sampling.get(name, MODE) for name in names}


def _checked_prompt(prompt: jax.Array, schedule: ChunkSchedule) -> jax.Array:
    prompt = jnp.asarray(prompt, jnp.float32)
    if prompt.ndim != 3 or prompt.shape[1] > schedule.length:
        raise ValueError(
            f"prompt must be [B, P <= {schedule.length}, D], found {tuple(prompt.shape)}"
        )
    end, ids = prompt.shape[1], schedule.chunk_ids
    if 0 < end < schedule.length and ids[end - 1] == ids[end]:
        raise ValueError(
            f"prompt of {end} tokens ends inside chunk {ids[end]}; give its known tokens a chunk "
            "of their own in the schedule, or fix them with a guide"
        )
    return prompt


def _check_key(rng: jax.Array | None, rules: Mapping[str, Sampling]) -> None:
    if rng is None and any(rule.sample for rule in rules.values()):
        raise ValueError("generate: sampling needs an rng key, found None")

"""A training loop of a few hundred steps on one batch, as one program."""

from typing import Any

import jax
import optax


def train_on_batch(policy: Any, batch: Any, params: Any, rate: float, steps: int) -> Any:
    """Parameters after `steps` of Adam whose rate falls from `rate` to 0 along a cosine."""
    tx = optax.adam(optax.cosine_decay_schedule(rate, steps))

    @jax.jit
    def train(params: Any) -> Any:
        def step(carry: Any, rng: jax.Array) -> Any:
            params, state = carry
            grads = jax.grad(lambda p: policy.loss(p, batch, rng, train=True)[0])(params)
            updates, state = tx.update(grads, state)
            return (optax.apply_updates(params, updates), state), None

        rngs = jax.random.split(jax.random.key(1), steps)
        return jax.lax.scan(step, (params, tx.init(params)), rngs)[0][0]

    return train(params)

"""The moving average against `golden/act/ema.npz`, Diffusion Policy's: decays and a trace."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arp_jax.training.state import TrainState, UpdateConfig, ema_decay, make_update_fn
from tests.golden_files import GoldenCheck, golden_paths, load_golden
from tests.training.tiny_policy import tiny_spec

DECAYS = "out/decay_"
POWERS = {"0.67": 2 / 3, "0.75": 3 / 4}  # names round
FILES = [path for path in golden_paths("act") if any(DECAYS in key for key in load_golden(path))]


class Led:
    """A policy whose gradient leads its parameters along the batch's: w -> batch["w"]."""

    spec = tiny_spec()

    def init(self, rng, batch):
        return {"w": batch["w"]}

    def loss(self, params, batch, rng, *, train):
        loss = 0.5 * jnp.square(params["w"] - batch["w"]).sum()
        return loss, {}

    def act(self, params, observation, rng):
        return jnp.zeros((1, self.spec.horizon, self.spec.action.size))


@pytest.mark.golden
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_decays_and_trace(path, capsys):
    golden, check = load_golden(path), GoldenCheck(path.stem, tolerance=1e-6)
    for key in (key for key in golden if key.startswith(DECAYS)):
        config = UpdateConfig(ema_power=POWERS[key.removeprefix(DECAYS)], ema_copies=2)
        check.compare(key, np.asarray(ema_decay(golden["in/steps"], config)), golden[key])
    # The first parameters are the initial ones; one step of gradient descent with rate 1 leads to
    # the next.
    tx, source = optax.sgd(1.0), golden["in/source"]
    start = {"w": source[0]}
    average = jax.tree.map(np.copy, start)
    state = TrainState(
        jnp.zeros((), jnp.int32), start, tx.init(start), average, jax.random.PRNGKey(0)
    )
    update = make_update_fn(Led(), tx, UpdateConfig(ema_copies=2))
    check.compare("trace 0", source[0], golden["out/trace"][0])
    for i, parameters in list(enumerate(source))[1:]:
        state, _ = update(jax.device_put(state), {"w": parameters})
        check.compare(f"parameters {i}", np.asarray(state.params["w"]), parameters)
        check.compare(f"trace {i}", np.asarray(state.ema["w"]), golden["out/trace"][i])
    check.finish(capsys)

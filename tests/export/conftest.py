"""A small policy that uses what exports usually break on: images, nested parameters, sampling."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.export.artifact import ExportSource, write_artifact
from arp_jax.normalize import FeatureStats, affine_from_limits
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec


@dataclasses.dataclass(frozen=True)
class ConvPolicy:
    """Convolution over the images, a dense layer over the features, categorical sampling."""

    spec: PolicySpec

    def init(self, rng, batch):
        keys = jax.random.split(rng, 3)
        return {
            "image": {"kernel": 0.1 * jax.random.normal(keys[0], (3, 3, 3, 4))},
            "dense": {
                "kernel": 0.1 * jax.random.normal(keys[1], (4 + 4, 8)),
                "bias": jnp.zeros((8,)),
            },
            "head": {"kernel": jax.random.normal(keys[2], (8, 16))},
        }

    def loss(self, params, batch, rng, *, train):
        raise NotImplementedError("this policy is only exported")

    def act(self, params, observation, rng):
        image = observation["image"].astype(jnp.float32) / 255 - 0.5  # [B, W, h, w, 3]
        batch = image.shape[0]
        maps = jax.lax.conv_general_dilated(
            image.reshape(-1, *image.shape[2:]),
            params["image"]["kernel"],
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        seen = maps.mean((1, 2)).reshape(batch, -1, 4).mean(1)  # [B, 4]
        vector = jnp.concatenate([seen, observation["agent_pos"].reshape(batch, -1)], -1)
        hidden = jnp.tanh(vector @ params["dense"]["kernel"] + params["dense"]["bias"])
        logits = hidden @ params["head"]["kernel"]  # [B, 16]
        pick, noise = jax.random.split(rng)
        cell = jax.random.categorical(pick, logits)[:, None, None] / 8.0 - 1.0
        shape = (batch, self.spec.horizon, 2)
        return cell + 0.05 * jax.random.normal(noise, shape) + hidden[:, None, :2]


@pytest.fixture(scope="session")
def source() -> ExportSource:
    observation = ObservationSpec(
        features=(FeatureSpec("agent_pos", ("x", "y"), "px", "world", (0.0,) * 2, (512.0,) * 2),),
        cameras=(CameraSpec("image", 12, 12),),
    )
    action = ActionSpec(("x", "y"), "px", "world", (True,) * 2, (0.0,) * 2, (512.0,) * 2, 10.0)
    policy = ConvPolicy(PolicySpec(observation, action, window=2, horizon=4, action_offset=-1))
    limits = affine_from_limits((0.0, 0.0), (512.0, 512.0))
    column = np.float32([1.0, 2.0])
    stats = {"agent_pos": FeatureStats(column, column, column, column, column, column, 10)}
    return ExportSource(
        policy=policy,
        params=policy.init(jax.random.key(0), {}),
        normalizer={"agent_pos": limits, "action": limits},
        stats=stats,
        name="conv",
        provenance={"run": "test", "step": 3},
    )


@pytest.fixture(scope="session")
def artifact_dir(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "artifact"
    write_artifact(source, out)
    return out

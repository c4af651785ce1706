"""A policy without training for demonstrations of the bridge: the arm draws an endless figure.

In: nothing. Out: an artifact like any other (`arp_jax.export_policy` writes the same files): state
of the myCobot 320 in, a chunk of joint targets out. The policy has no memory: where on the figure
the arm is follows from two of its joints, so that it also finds back from elsewhere.

Example:
    python -m launch.demo_policy --out runs/demo_policy
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from arp_jax.export.artifact import ExportSource, write_artifact
from arp_jax.export_policy import describe
from arp_jax.normalize import Affine
from arp_jax.policies.base import Batch, Metrics, Params
from arp_jax.specs import ObservationSpec, PolicySpec
from robot_bridge.arm import CONTROL_HZ, HOME, action_spec, state_spec

HORIZON = 16
PERIOD_S = 9.0
# How fast the figure is approached from elsewhere, as a share of the distance each second.
APPROACH_PER_S = 0.8
# Swings round the home pose in degrees: with the phase's cosine, its sine, and twice as fast.
SWING_COS = (14.0, 0.0, 0.0, 0.0, 0.0, 0.0)
SWING_SIN = (0.0, 0.0, 8.0, 6.0, 0.0, 0.0)
SWING_DOUBLE = (0.0, 3.0, 0.0, 0.0, 5.0, 18.0)
# These two joints tell the phase: the first swings with its cosine, the second with its sine.
PHASE_JOINTS = (0, 2)


class FigurePolicy:
    """See `arp_jax.policies.base.Policy`; normalised units are physical ones here."""

    def __init__(self) -> None:
        self.spec = PolicySpec(
            observation=ObservationSpec((state_spec(True),)),
            action=action_spec(True),
            window=1,
            horizon=HORIZON,
        )

    def init(self, rng: jax.Array, batch: Batch) -> Params:
        """The figure's center and swings [7], rad and opening."""
        rows = {"cos": SWING_COS, "sin": SWING_SIN, "double": SWING_DOUBLE}
        gripper = {"cos": 0.0, "sin": 0.35, "double": 0.0}
        params = {
            name: jnp.asarray([*np.radians(row), gripper[name]], jnp.float32)
            for name, row in rows.items()
        }
        return {"center": jnp.asarray([*HOME, 0.6], jnp.float32), **params}

    def loss(
        self, params: Params, batch: Batch, rng: jax.Array, *, train: bool
    ) -> tuple[jax.Array, Metrics]:
        """Nothing is learned."""
        raise ValueError("this policy is written, not trained")

    def act(
        self, params: Params, observation: Mapping[str, jax.Array], rng: jax.Array
    ) -> jax.Array:
        """Targets [B, H, 7] for the next `HORIZON` steps."""
        away = observation["state"][:, -1] - params["center"]  # [B, 7]
        first, second = PHASE_JOINTS
        phase = jnp.arctan2(
            away[:, second] / params["sin"][second], away[:, first] / params["cos"][first]
        )
        seconds = (jnp.arange(HORIZON) + 1) / CONTROL_HZ  # [H]
        ahead = phase[:, None] + 2 * jnp.pi / PERIOD_S * seconds  # [B, H]
        # What the arm is away from the figure by fades.
        fading = jnp.exp(-APPROACH_PER_S * seconds)[None, :, None]  # [1, H, 1]
        aside = (away - figure_at(params, phase))[:, None]  # [B, 1, 7]
        return params["center"] + figure_at(params, ahead) + fading * aside


def figure_at(params: Params, phase: jax.Array) -> jax.Array:
    """The figure's points [..., 7], relative to its center, at phases [...]."""
    p = phase[..., None]
    return (
        params["cos"] * jnp.cos(p) + params["sin"] * jnp.sin(p) + params["double"] * jnp.sin(2 * p)
    )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="artifact folder")
    flags = parser.parse_args()
    policy = FigurePolicy()
    identity = Affine(np.zeros(7), np.ones(7))
    source = ExportSource(
        policy=policy,
        params=policy.init(jax.random.key(0), {}),
        normalizer={"action": identity},
        stats={},
        name="figure",
        provenance={"written_by": "launch.demo_policy"},
    )
    print(describe(flags.out, write_artifact(source, flags.out)))


if __name__ == "__main__":
    main()

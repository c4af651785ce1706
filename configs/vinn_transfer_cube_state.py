"""VINN on the bimanual transfer cube from joint positions and the cube's pose: a minute on 2 cores.

Data:      python -m arp_jax.sim.record --task transfer_cube -n 50 --full_length --out DATA
Command:   python -m arp_jax.train --config=configs/vinn_transfer_cube_state.py \
               --config.data.source=DATA/transfer_cube/1.0.0
Evaluate:  python -m arp_jax.evaluate runs/vinn_transfer_cube_state --episodes 200
Expected:  see docs/results.md (the comparison). No image is drawn anywhere.

Nothing is trained: joint positions and the cube's pose are compared as they are normalised.
"""

import ml_collections

from configs import arp_transfer_cube_state, vinn_push_t_state


def get_config() -> ml_collections.ConfigDict:
    """See the module's docstring."""
    config = arp_transfer_cube_state.get_config()
    push_t = vinn_push_t_state.get_config()
    config.policy = push_t.policy
    config.train = push_t.train
    config.data.pad_after = push_t.data.pad_after
    return config

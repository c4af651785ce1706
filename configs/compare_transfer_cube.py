"""ARP, ACT, Diffusion Policy and VINN on the bimanual transfer cube: same data, time and starts.

Data:      python -m arp_jax.sim.record --task transfer_cube -n 50 --full_length --out DATA
Command:   python -m launch.compare --config=configs/compare_transfer_cube.py \
               --source=DATA/transfer_cube/1.0.0 --workdir=runs/compare_transfer_cube
Variants:  cpu    small networks, 9 minutes of training each: under an hour on 2 quiet cores
           full   networks of the published sizes, 2 hours of training each: for a GPU
Expected:  see docs/results.md.

Joint positions and the cube's pose are observed, one step of them; one second (50 actions) is
executed at a time. What is equal and what is not: configs/compare_push_t.py.
"""

import ml_collections

from configs import compare_push_t

SHARED = (
    "--config.observations=('state','object_pose')",
    "--config.data.validation_fraction=0.1",
)
POLICIES = {
    "arp": "configs/arp_transfer_cube_state.py",
    "act": "configs/act_transfer_cube_state.py",
    "diffusion": "configs/diffusion_transfer_cube_state.py",
    "vinn": "configs/vinn_transfer_cube_state.py",
}
ARP_FULL = (
    *("--config.policy.layers=8", "--config.policy.embed_dim=512", "--config.policy.heads=8"),
    *("--config.optim.learning_rate=1e-4", "--config.train.batch_size=256"),
)
FULL = compare_push_t.FULL | {"arp": ARP_FULL}


def get_config(variant: str = "cpu") -> ml_collections.ConfigDict:
    """See the module's docstring; raises ValueError for an unknown variant."""
    config = compare_push_t.get_config(variant)
    config.title = "Transfer cube from joint positions and the cube's pose"
    for name, file in POLICIES.items():
        config.policies[name] = (file, *SHARED, *(FULL[name] if variant == "full" else ()))
    config.env = "transfer_cube"
    config.envs = config.episodes
    return config

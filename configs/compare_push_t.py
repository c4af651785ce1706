"""ARP, ACT, Diffusion Policy and VINN on Push-T from key points: the same data, time and starts.

Data:      python datasets/push_t/build.py --replay PATH/pusht_cchi_v7_replay.zarr --out DATA
Command:   python -m launch.compare --config=configs/compare_push_t.py \
               --source=DATA/push_t/1.0.0 --workdir=runs/compare_push_t
Variants:  cpu    small networks, 9 minutes of training each: under an hour on 2 quiet cores
           full   networks of the published sizes, 2 hours of training each: for a GPU
Smaller:   --config.minutes=1 --config.episodes=50
Expected:  see docs/results.md.

Equal are: the demonstrations and which of them are held out, what is observed, the minutes in which
training steps are taken, the initial states, and how many actions of a chunk are executed. A
policy's own are: its config (named below), how many past observations it looks at, its optimiser.
No demonstration is mirrored, since VINN's library could not be. VINN trains nothing and is done
when its library is filled.
"""

import ml_collections

# Flags of arp_jax.train, the same for every policy.
SHARED = (
    "--config.observations=('agent_pos','keypoints')",
    "--config.data.augment=",
    "--config.data.validation_fraction=0.1",
)
POLICIES = {
    "arp": ("configs/push_t_state.py",),
    "act": ("configs/act_push_t_state.py",),
    "diffusion": ("configs/diffusion_push_t_state.py",),
    "vinn": ("configs/vinn_push_t_state.py",),
}
# What makes them as large as published; ARP's published model has images, here it has key points.
FULL = {
    "arp": (
        *("--config.policy.layers=30", "--config.policy.embed_dim=64"),
        *("--config.optim.learning_rate=3e-4", "--config.train.batch_size=256"),
    ),
    "act": (
        *("--config.policy.embed_dim=512", "--config.policy.heads=8"),
        *("--config.policy.hidden=3200", "--config.policy.latent_dim=32"),
        *("--config.policy.style_layers=4", "--config.policy.encoder_layers=4"),
        *("--config.optim.learning_rate=1e-4", "--config.train.batch_size=256"),
    ),
    "diffusion": (
        *("--config.policy.widths=(256,512,1024)", "--config.policy.step_size=256"),
        *("--config.policy.sampler=ddpm", "--config.optim.learning_rate=1e-4"),
        "--config.train.batch_size=256",
    ),
    "vinn": (),
}


def get_config(variant: str = "cpu") -> ml_collections.ConfigDict:
    """See the module's docstring; raises ValueError for an unknown variant."""
    if variant not in ("cpu", "full"):
        raise ValueError(f"variant {variant!r} is unknown; choose 'cpu' or 'full'")
    full = variant == "full"
    config = ml_collections.ConfigDict()
    config.title = "Push-T from key points"
    config.order = tuple(POLICIES)  # the others are compared with the first
    # name -> (config file, flags of arp_jax.train...)
    config.policies = {
        name: (*flags, *SHARED, *(FULL[name] if full else ())) for name, flags in POLICIES.items()
    }
    config.untimed = ("vinn",)  # trained for the steps of their own config
    config.minutes = 120.0 if full else 9.0  # of training steps, each
    config.timing_steps = 1_000 if full else 60  # in which the speed of each is measured
    config.env = "push_t"
    config.engine = ""  # "" is what suits the platform
    config.episodes = 1_000 if full else 200
    config.envs = 250 if full else 50
    config.seed = 100_000  # of the initial states
    return config

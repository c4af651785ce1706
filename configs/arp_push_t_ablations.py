"""The paper's ablations of ARP on Push-T: how many tokens a pass, with and without a plan.

Command:   python -m arp_jax.train --config=configs/arp_push_t_ablations.py:one_step \
               --workdir=runs/one_step --config.data.source=DATA/push_t/1.0.0
Variants:  published            4 plan points in one pass, then 16 actions in one pass
           one_step             everything in one pass
           plan_1 .. plan_4     plan points per pass (4 as published)
           action_1, 2, 4, 8    actions per pass (16 as published)
           flat, flat_discrete  x and y as tokens of their own, one at a time, no prompt and no
                                plan: mixtures of Gaussians, or 100 bins
Expected:  training each takes a GPU, as configs/push_t_image.py does; none was trained here.
           Parameters and multiply-accumulates: python -m arp_jax.profile --all
"""

import ml_collections

from configs import push_t_image

_FLAT = {
    "prompt_feature": "",
    "plan_points": 0,
    "action_bins": 100,
    "action_chunk": 1,
    "action_components": 4,
    "layers": 12,
}
VARIANTS = {
    "published": {},
    "one_step": {"plan_chunk": -1},
    **{f"plan_{size}": {"plan_chunk": size} for size in (1, 2, 3, 4)},
    **{f"action_{size}": {"action_chunk": size} for size in (1, 2, 4, 8)},
    "flat": _FLAT,
    "flat_discrete": {**_FLAT, "action_head": "class"},
}


def get_config(variant: str = "published") -> ml_collections.ConfigDict:
    """See the module's docstring; raises ValueError for an unknown variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown; choose one of {sorted(VARIANTS)}")
    config = push_t_image.get_config()
    config.policy.update(VARIANTS[variant])
    if variant.startswith("flat"):
        config.observations = ("image",)
    return config

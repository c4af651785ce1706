"""Co-training as in Mobile ALOHA: cabinet, parts of the task, and a fifth of static ALOHA.

Data:      as in configs/act_cotrain_wipe_wine.py, for the folders cabinet, cabinet_handles,
           cabinet_grasp_pots and aloha_compressed_dataset (python -m arp_jax.data.mixtures cabinet)
Command:   python -m arp_jax.train --config=configs/act_cotrain_cabinet.py --workdir=runs/cabinet \
               --config.data.source=DATA
Variants:  alone    the same without the static robot
Expected:  for a GPU and a robot; not trained here.

The statistics are those of the whole task's recordings; one in a hundred of them is held out.
"""

import ml_collections

from configs import act_aloha

VARIANTS = {"": "cabinet", "alone": "cabinet_alone"}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the module's docstring; raises ValueError for an unknown variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown; choose one of {list(VARIANTS)[1:]}")
    config = act_aloha.get_config("mobile")
    config.data.mixture = VARIANTS[variant]
    config.data.stats = "target"
    config.data.validation_fraction = -1
    config.data.mixture_differences = "limits"
    return config

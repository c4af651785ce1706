"""Co-training as in Mobile ALOHA: wipe_wine, and half of every batch from static ALOHA.

Data:      python datasets/convert_act_hdf5.py RAW/wipe_wine --name wipe_wine --out DATA \
               --base always --smooth_base --shift_real
           python datasets/convert_act_hdf5.py RAW/aloha_compressed_dataset --out DATA \
               --name aloha_compressed_dataset --base always --smooth_base --shift_real
Command:   python -m arp_jax.train --config=configs/act_cotrain_wipe_wine.py --workdir=runs/wine \
               --config.data.source=DATA
Variants:  alone    the task's own recordings only, for comparison
Expected:  for a GPU and a robot; not trained here. The mixture is printed by
           python -m arp_jax.data.mixtures wipe_wine.

The statistics are those of the task alone, a tenth of its recordings is held out, and recordings of
the static robot have a base that stands still. Nothing else is done about the difference.
"""

import ml_collections

from configs import act_aloha

VARIANTS = ("", "alone")


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """See the module's docstring; raises ValueError for an unknown variant."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r} is unknown; choose one of {VARIANTS[1:]}")
    config = act_aloha.get_config("mobile")
    config.data.mixture = "wipe_wine" if not variant else "wipe_wine=1"
    config.data.stats = "target"
    config.data.validation_fraction = 0.1 if variant else -1
    # Limits are measured in each set of recordings.
    config.data.mixture_differences = "limits"
    return config

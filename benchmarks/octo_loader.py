"""Octo's own data loader, measured in its own interpreter; benchmarks/loader.py starts this.

In: an Octo clone, a TFDS folder, settings as JSON. Out: one line of JSON. Octo and dlimp are used
as they are, through `make_interleaved_dataset`, the function that its pre-training calls. Needs
what `import octo.data.dataset` needs (tensorflow 2.15, tensorflow-datasets 4.9.2, its versions of
numpy and protobuf, tensorflow-graphics, dlimp, huggingface_hub), and nothing of arp_jax.
"""

import json
import os
import sys
import time

# Of octo/scripts/configs/finetune_config.py, for the camera at 256 x 256.
AUGMENT = {
    "random_resized_crop": {"scale": [0.8, 1.0], "ratio": [0.9, 1.1]},
    "random_brightness": [0.1],
    "random_contrast": [0.9, 1.1],
    "random_saturation": [0.9, 1.1],
    "random_hue": [0.05],
    "augment_order": [
        "random_resized_crop",
        "random_brightness",
        "random_contrast",
        "random_saturation",
        "random_hue",
    ],
}


def resident_mb() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(settings: dict) -> dict:
    """Reads batches for `seconds` after the first `warm` samples.

    Octo trains on the first 95 % of the episodes where there is no split "val".
    """
    sys.path.insert(0, settings["octo"])
    import tensorflow as tf
    from octo.data.dataset import make_interleaved_dataset

    tf.config.set_visible_devices([], "GPU")
    folder = settings["dataset"].rstrip("/")
    data_dir, name = os.path.split(os.path.dirname(folder))
    frames = {"num_parallel_calls": settings["parallel_calls"]}
    if settings["augment"]:
        frames |= {"resize_size": {"primary": (256, 256)}, "image_augment_kwargs": AUGMENT}
    dataset = make_interleaved_dataset(
        [
            {
                "name": name,
                "data_dir": data_dir,
                "image_obs_keys": {"primary": "image"},
                "proprio_obs_key": "state",
                "language_key": "language_instruction",
            }
        ],
        train=True,
        shuffle_buffer_size=settings["shuffle_buffer"],
        traj_transform_kwargs={"window_size": settings["window"], "action_horizon": 4},
        frame_transform_kwargs=frames,
        batch_size=settings["batch_size"],
    )
    start = time.perf_counter()
    batches = dataset.iterator(prefetch=2)
    samples, warm, memory = 0, 0, {}
    begin = first = None
    while begin is None or time.perf_counter() - begin < settings["seconds"]:
        batch = next(batches)
        images = batch["observation"]["image_primary"]
        assert images.shape[1:] == (settings["window"], 256, 256, 3), images.shape
        first = first or time.perf_counter() - start
        samples += len(images)
        for mark in settings["marks"]:
            if samples >= mark and mark not in memory:
                memory[mark] = resident_mb()
        if begin is None and samples >= settings["warm"]:
            begin, warm, busy = time.perf_counter(), samples, time.process_time()
    seconds = time.perf_counter() - begin
    return {
        "samples_per_second": (samples - warm) / seconds,
        "cpu_ms": 1e3 * (time.process_time() - busy) / (samples - warm),
        "samples": samples,
        "seconds_to_first_batch": first,
        "memory_mb": memory,
        "tensorflow": tf.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))

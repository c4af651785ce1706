"""Episodes in ACT's HDF5 layout as its own recorders write them: h5py and, for JPEG, OpenCV."""

from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 24, 32


def act_arrays(seed=0, steps=7, columns=14, cameras=("top",), base=False, effort=False):
    """Arrays by their path in the file; pictures are smooth, so that JPEG changes them little."""
    rng = np.random.default_rng(seed)
    keys = ["action", "observations/qpos", "observations/qvel"]
    keys += ["observations/effort"] * effort
    arrays = {key: rng.normal(size=(steps, columns)).astype(np.float32) for key in keys}
    if base:
        arrays["base_action"] = rng.normal(size=(steps, 2)).astype(np.float32)
    for number, camera in enumerate(cameras):
        # Red fades from left to right, blue from top to bottom, green says which camera and step.
        frames = np.zeros((steps, HEIGHT, WIDTH, 3), np.uint8)
        frames[..., 0] = np.linspace(0, 250, WIDTH)
        frames[..., 2] = np.linspace(250, 0, HEIGHT)[:, None]
        frames[..., 1] = (40 * number + 10 * np.arange(steps))[:, None, None]
        arrays[f"observations/images/{camera}"] = frames
    return arrays


def write_act(path: Path, arrays, *, sim=None, compress=False, chunked=True, drop=()):
    """Writes the arrays; with `compress` pictures pass through cv2.imencode as they are."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    lengths = []
    with h5py.File(path, "w") as file:
        if sim is not None:
            file.attrs["sim"] = sim
        if compress:
            file.attrs["compress"] = True
        for key, values in arrays.items():
            if key in drop:
                continue
            if compress and "images" in key:
                values, sizes = jpeg_rows(values)
                lengths.append(sizes)
            chunks = (1, *values.shape[1:]) if chunked and "images" in key else None
            file.create_dataset(key, data=values, chunks=chunks)
        if compress:
            # In the order in which the recorder had its cameras, not HDF5's.
            file["compress_len"] = np.array(lengths[::-1], np.float32)
    return path


def jpeg_rows(frames):
    """Frames as zero-padded JPEG rows uint8 [T, L], as Mobile ALOHA's recorder makes them."""
    import cv2

    encoded = [
        cv2.imencode(".jpg", frame, [int(cv2.IMWRITE_JPEG_QUALITY), 50])[1] for frame in frames
    ]
    rows = np.zeros((len(encoded), max(map(len, encoded)) + 5), np.uint8)
    for row, data in zip(rows, encoded, strict=True):
        row[: len(data)] = data
    return rows, [len(data) for data in encoded]

"""Episodes as a film: a grid of clips in one mp4, solved ones framed green, others red.

Flows in: rendered clips, uint8 [T, h, w, 3] each. Flows out: a file that browsers play (H.264).
Rendering itself belongs to the simulator and is passed in by the caller.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np

_SOLVED, _FAILED = (46, 160, 67), (207, 34, 46)
_BORDER = 3
# H.264 encodes blocks of 16 pixels; other sizes would be rescaled and blurred.
_BLOCK = 16


def grid_frames(clips: Sequence[np.ndarray], solved: Sequence[bool] | np.ndarray) -> np.ndarray:
    """Arranges clips in a near-square grid.

    Args:
        clips: uint8 [T_i, h, w, 3], all of one h and w; a shorter clip holds its last frame.
        solved: colour of each clip's frame.

    Returns:
        uint8 [max T, rows * (h + 6) + pad, columns * (w + 6) + pad, 3]; sides divisible by 16.

    Raises:
        ValueError: no clips, or clips of different sizes.
    """
    if not clips:
        raise ValueError("a video needs at least one clip")
    sizes = {clip.shape[1:] for clip in clips}
    if len(sizes) > 1:
        raise ValueError(f"clips of one video need one size, found {sorted(sizes)}")
    height, width, _ = clips[0].shape[1:]
    columns = math.ceil(math.sqrt(len(clips)))
    rows = math.ceil(len(clips) / columns)
    cell_h, cell_w = height + 2 * _BORDER, width + 2 * _BORDER
    full_h, full_w = (math.ceil(x / _BLOCK) * _BLOCK for x in (rows * cell_h, columns * cell_w))
    length = max(len(clip) for clip in clips)
    grid = np.full((length, full_h, full_w, 3), 255, np.uint8)
    for index, (clip, success) in enumerate(zip(clips, solved, strict=True)):
        top, left = (index // columns) * cell_h, (index % columns) * cell_w
        grid[:, top : top + cell_h, left : left + cell_w] = _SOLVED if success else _FAILED
        inner = grid[:, top + _BORDER :, left + _BORDER :][:, :height, :width]
        inner[: len(clip)] = clip
        inner[len(clip) :] = clip[-1]
    return grid


def write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    """Writes frames, uint8 [T, h, w, 3] with sides divisible by 16, as an H.264 mp4."""
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (frames.shape[2], frames.shape[1]),
        fps=fps,
        codec="libx264",
        quality=7,
        macro_block_size=_BLOCK,
        ffmpeg_log_level="error",
    )
    with warnings.catch_warnings():
        # jax warns of any fork; ffmpeg's process replaces itself at once and runs no jax.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
        writer.send(None)
    try:
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()


def read_video(path: Path) -> np.ndarray:
    """Reads a video back as uint8 [T, h, w, 3]."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader])

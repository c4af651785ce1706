"""Camera images as mp4 video, through PyAV.

In: the path of a video and the times of the frames that are wanted, or frames to be encoded. Out:
RGB frames uint8 [H, W, 3], one after the other, or a file. A frame is found by its time stamp,
since a file may hold many episodes; nothing is interpolated and nothing repeated silently. Which
frames belong to an episode is `lerobot_layout.py`'s business, still images are `images.py`'s.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

# Constant quality of each codec, lower is better and larger: 35 dB PSNR on Bridge's small pictures,
# where the halved color resolution of yuv420p costs most.
DEFAULT_QUALITY = {"h264": 18, "av1": 24}
CODECS = tuple(DEFAULT_QUALITY)
# A key frame every other frame, as LeRobot writes: random access decodes at most two frames.
_KEY_FRAMES = 2
# A seek goes to the key frame before the wanted time; this much earlier, so that a file whose
# decoding and presentation times differ is not entered too late.
_SEEK_MARGIN_S = 1.0


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself; `frames` is 0 where it does not say."""

    height: int
    width: int
    codec: str
    pixel_format: str
    rate_hz: float
    frames: int


def import_av() -> Any:
    """PyAV, or an ImportError that says how to get it."""
    try:
        import av
    except ImportError as error:
        raise ImportError(f"video files need the av package: pip install av ({error})") from error
    return av


def video_info(path: Path) -> VideoInfo:
    """Size, codec and rate of a video.

    Raises:
        ValueError: the file is missing, truncated or no video.
    """
    with _opened(path) as (_, stream):
        context = stream.codec_context
        return VideoInfo(
            height=context.height,
            width=context.width,
            codec=stream.codec.canonical_name,
            pixel_format=str(context.pix_fmt),
            rate_hz=float(stream.average_rate or stream.base_rate),
            frames=stream.frames,
        )


def read_frames(
    path: Path, timestamps: Sequence[float] | np.ndarray, tolerance: float
) -> Iterator[np.ndarray]:
    """Yields the frames at the given times, uint8 [H, W, 3] (RGB) each.

    Args:
        path: the video.
        timestamps: [N] seconds from the start of the file, ascending.
        tolerance: greatest distance (s) between a wanted time and the frame taken for it; below
            half a frame period no other frame can be meant.

    Raises:
        ValueError: the file is missing, truncated or damaged, or has no frame within `tolerance`
            of a time. The message names the file and the time.
    """
    wanted = np.asarray(timestamps, np.float64)
    if len(wanted) == 0:
        return
    if np.any(np.diff(wanted) < 0):
        raise ValueError(f"{path}: the wanted times must ascend")
    found, last = 0, -np.inf
    for time, pixels in _decode_from(path, float(wanted[0])):
        last = time
        while found < len(wanted) and abs(time - wanted[found]) <= tolerance:
            found += 1
            yield pixels()
        if found == len(wanted):
            return
        if time > wanted[found] + tolerance:
            break
    where = (
        f"the nearest later frame is at {last:.4f} s"
        if last > wanted[found]
        else (f"the video ends at {max(last, 0):.4f} s (truncated?)")
    )
    raise ValueError(
        f"{path}: no frame within {tolerance:.4g} s of {wanted[found]:.4f} s: {where}; "
        "copy the file again or leave the episode out"
    )


def encode_video(
    path: Path,
    frames: Iterable[np.ndarray],
    rate_hz: float,
    codec: str = "h264",
    quality: int | None = None,
) -> int:
    """Writes frames uint8 [H, W, 3] (RGB) as an mp4 (yuv420p); returns their number.

    Args:
        path: the file; it appears only when it is complete.
        frames: consumed one by one.
        rate_hz: frame n is shown at n / rate_hz seconds.
        codec: one of `CODECS`.
        quality: constant quality of the codec (crf); None takes `DEFAULT_QUALITY`.

    Raises:
        ValueError: unknown codec, no frames, frames of odd or of different sizes, or frames that
            the encoder refuses.
    """
    av = import_av()
    options = _encoder_options(codec, quality)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    rate = Fraction(rate_hz).limit_denominator(1001)
    count = 0
    try:
        with av.open(
            str(temporary), "w", format="mp4", options={"movflags": "faststart"}
        ) as output:
            stream: Any = None
            for count, pixels in enumerate(frames, 1):
                height, width = pixels.shape[:2]
                if stream is None:
                    _check_size(path, height, width)
                    stream = output.add_stream(_ENCODERS[codec], rate=rate, options=options)
                    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                elif (height, width) != (stream.height, stream.width):
                    raise ValueError(
                        f"{path}: frame {count - 1} is {height} x {width}, "
                        f"the first one {stream.height} x {stream.width}"
                    )
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame.pts, frame.time_base = count - 1, 1 / rate
                output.mux(stream.encode(frame))
            if stream is None:
                raise ValueError(f"{path}: no frames to encode")
            output.mux(stream.encode())
        temporary.replace(path)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: the {codec} encoder refused: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def join_videos(path: Path, parts: Sequence[tuple[Path, int]], rate_hz: float) -> None:
    """Puts videos of one size and codec behind each other without encoding again.

    Args:
        path: the file to write; it appears only when it is complete.
        parts: (video of `encode_video`, its number of frames) in order; frame n of the whole is
            shown at n / rate_hz seconds.
        rate_hz: of all parts.

    Raises:
        ValueError: a part is missing or damaged, or has another number of frames.
    """
    av = import_av()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    rate, done = Fraction(rate_hz).limit_denominator(1001), 0
    try:
        with av.open(
            str(temporary), "w", format="mp4", options={"movflags": "faststart"}
        ) as output:
            joined: Any = None
            for part, frames in parts:
                with _opened(part) as (container, stream):
                    if joined is None:
                        joined = output.add_stream_from_template(stream, opaque=True)
                    offset, copied = round(done / rate / stream.time_base), 0
                    for packet in container.demux(stream):
                        if packet.dts is None:
                            continue  # the demuxer's end mark
                        packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                        packet.stream = joined
                        output.mux(packet)
                        copied += 1
                if copied != frames:
                    raise ValueError(f"{part}: {copied} frames, should be {frames}; encode again")
                done += frames
        temporary.replace(path)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: the parts cannot be joined: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


# PyAV's names of the encoders.
_ENCODERS = {"h264": "libx264", "av1": "libsvtav1"}


def _encoder_options(codec: str, quality: int | None) -> dict[str, str]:
    if codec not in CODECS:
        raise ValueError(f"codec {codec!r} is unknown; choose one of {CODECS}")
    crf = DEFAULT_QUALITY[codec] if quality is None else quality
    options = {"crf": str(crf), "g": str(_KEY_FRAMES)}
    if codec == "h264":
        # Without frames that refer to later ones, decoding order is the order shown. One thread:
        # processes work on episodes of their own, and the bytes depend on no number of cores.
        return options | {"preset": "veryfast", "bf": "0", "threads": "1"}
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 reports its settings otherwise
    return options | {"preset": "10", "svtav1-params": "lp=1"}


def _check_size(path: Path, height: int, width: int) -> None:
    if height % 2 or width % 2:
        raise ValueError(
            f"{path}: video needs even sizes, the frames are {height} x {width}; "
            "store them as images instead"
        )


def _decode_from(path: Path, start: float) -> Iterator[tuple[float, Any]]:
    """(time, function that makes the pixels) of the frames from the last key frame before start."""
    av = import_av()
    with _opened(path) as (container, stream):
        # A damaged picture is an error, not something to be painted over.
        stream.codec_context.options = {"err_detect": "explode"}
        try:
            if start > _SEEK_MARGIN_S:
                target = int((start - _SEEK_MARGIN_S) / stream.time_base)
                container.seek(target, stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.pts is None:
                    continue
                time = float(frame.pts * stream.time_base)
                if frame.is_corrupt:
                    raise ValueError(f"{path}: the frame at {time:.4f} s is damaged; copy it again")

                def pixels(frame: Any = frame) -> np.ndarray:
                    return frame.to_ndarray(format="rgb24")

                yield time, pixels
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{path}: cannot be decoded ({error.strerror or error}); copy the file again"
            ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """(container, video stream) of a file."""
    av = import_av()
    try:
        container = av.open(str(path))
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such video; copy it again") from error
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"{path}: no readable video ({reason}; truncated?); copy it again"
        ) from error
    with container:
        if not container.streams.video:
            raise ValueError(f"{path}: holds no video stream")
        yield container, container.streams.video[0]

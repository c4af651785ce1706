"""Frames by time stamp out of mp4 files: the right ones, or one error that names the file."""

import numpy as np
import pytest

from tests.data.lerobot_sets import pictures, psnr

av = pytest.importorskip("av", reason="av is not installed")

from arp_jax.data.formats.video import (  # noqa: E402
    CODECS,
    encode_video,
    join_videos,
    read_frames,
    video_info,
)

RATE = 10
COUNTS = (30, 1, 17)
TOLERANCE = 0.25 / RATE


def frames_of(clip):
    return pictures(clip, COUNTS[clip], 48, 64)


@pytest.fixture(scope="module", params=CODECS)
def joined(request, tmp_path_factory):
    """Three clips in one file."""
    folder = tmp_path_factory.mktemp(request.param)
    parts = []
    for clip, count in enumerate(COUNTS):
        path = folder / f"{clip}.mp4"
        assert encode_video(path, iter(frames_of(clip)), RATE, request.param) == count
        parts.append((path, count))
    join_videos(folder / "joined.mp4", parts, RATE)
    assert len(list(folder.iterdir())) == 4  # nothing temporary is left
    return folder / "joined.mp4"


def test_every_clip_of_a_joined_file_is_found_by_its_time(joined):
    info = video_info(joined)
    assert (info.height, info.width, info.rate_hz) == (48, 64, RATE)
    assert info.pixel_format == "yuv420p"
    assert info.frames == sum(COUNTS)
    start = 0
    for clip, count in enumerate(COUNTS):
        found = np.stack(list(read_frames(joined, (start + np.arange(count)) / RATE, TOLERANCE)))
        assert found.dtype == np.uint8
        wanted = frames_of(clip)
        for step in range(count):
            # Another frame, even a neighbor, differs by far more than compression does.
            assert psnr(found[step], wanted[step]) > 34
            # The last channel's brightness grows by 9 a frame.
            assert abs(np.mean(found[step, ..., 2]) - np.mean(wanted[step, ..., 2])) < 4.5
        start += count


def test_times_may_be_chosen_repeated_and_inexact(joined):
    wanted = frames_of(0)
    times = np.array([3, 3, 11, 25]) / RATE + np.array([0, 0.02, -0.02, 0.01])
    found = list(read_frames(joined, times, TOLERANCE))
    for frame, step in zip(found, (3, 3, 11, 25), strict=True):
        assert psnr(frame, wanted[step]) > 34
    np.testing.assert_array_equal(found[0], found[1])
    assert list(read_frames(joined, [], TOLERANCE)) == []


def test_frames_that_are_not_there(joined):
    total = sum(COUNTS) / RATE
    with pytest.raises(ValueError, match=r"joined\.mp4: no frame within 0\.025 s of 4\.8.*ends at"):
        list(read_frames(joined, [total - 1 / RATE, total], TOLERANCE))
    with pytest.raises(
        ValueError, match=r"joined\.mp4: no frame.*of 1\.25.*later frame is at 1\.3"
    ):
        list(read_frames(joined, [1.25], TOLERANCE))
    with pytest.raises(ValueError, match=r"joined\.mp4: the wanted times must ascend"):
        list(read_frames(joined, [0.2, 0.1], TOLERANCE))


def test_videos_of_other_encoders_are_entered_at_the_right_frame(tmp_path):
    """Few key frames and frames that refer to later ones: a seek lands long before the frame."""
    path, frames = tmp_path / "foreign.mp4", pictures(0, 90, 48, 64)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"g": "60", "bf": "3"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for pixels in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())
    for first in (0, 1, 30, 59, 60, 61, 88):
        found = list(read_frames(path, np.arange(first, first + 2) / RATE, TOLERANCE))
        for step, pixels in enumerate(found, first):
            others = [psnr(pixels, frames[n]) for n in range(max(step - 2, 0), min(step + 3, 90))]
            assert np.argmax(others) == min(step, 2), (first, step)


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "noise":
        middle = len(content) // 2
        content[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    keep = {"empty": 0, "header": 200, "half": len(content) // 2, "end": len(content) - 60}
    path.write_bytes(content[: keep.get(how, len(content))])


@pytest.mark.parametrize("how", ["missing", "empty", "header", "half", "end", "noise"])
def test_broken_files_are_named(joined, tmp_path, how):
    path = tmp_path / "broken.mp4"
    if how != "missing":
        path.write_bytes(joined.read_bytes())
        damage(path, how)
    with pytest.raises(ValueError, match=r"broken\.mp4: ") as caught:
        list(read_frames(path, np.arange(sum(COUNTS)) / RATE, TOLERANCE))
    assert "\n" not in str(caught.value)


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with pytest.raises(ValueError, match=r"sound\.mp4: holds no video stream"):
        video_info(path)


def test_unusable_frames_leave_nothing_behind(tmp_path):
    path = tmp_path / "a.mp4"
    even, odd = np.zeros((2, 32, 32, 3), np.uint8), np.zeros((1, 32, 33, 3), np.uint8)
    for frames, codec, message in (
        (odd, "h264", "even sizes, the frames are 32 x 33"),
        ([*even, even[0, :16]], "h264", "frame 2 is 16 x 32, the first one 32 x 32"),
        ([], "h264", "no frames"),
        (even, "mpeg1", "codec 'mpeg1' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            encode_video(path, frames, RATE, codec)
    encode_video(path, even, RATE)
    with pytest.raises(ValueError, match="2 frames, should be 3"):
        join_videos(tmp_path / "b.mp4", [(path, 3)], RATE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]

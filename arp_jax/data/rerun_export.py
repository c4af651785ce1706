"""An episode as a recording of the rerun viewer (rerun.io), for whoever has it.

In: a `ViewedEpisode`. Out: a .rrd file with every camera and every series on a time line of steps.
Needs the package rerun-sdk, which nothing else here does.
"""

from pathlib import Path
from typing import Any

import numpy as np

from arp_jax.data.viewed_episode import ViewedEpisode


def import_rerun() -> Any:
    """The rerun package; raises ImportError that says how to get it."""
    try:
        import rerun
    except ImportError as error:
        raise ImportError(f"--rerun needs rerun: pip install rerun-sdk ({error})") from error
    return rerun


def write_rerun(path: Path, episode: ViewedEpisode) -> None:
    """Writes a recording; pictures as they are stored."""
    rerun = import_rerun()
    recording = rerun.RecordingStream("arp_jax", recording_id=episode.title)
    recording.save(path)
    for series in episode.series:
        recording.log(series.name, rerun.SeriesLines(names=list(series.dims)), static=True)
    if episode.language:
        text = "\n".join(episode.language)
        recording.log("language", rerun.TextDocument(text), static=True)
    for step in range(episode.length):
        recording.set_time("step", sequence=step)
        if episode.rate_hz:
            recording.set_time("time", duration=step / episode.rate_hz)
        for series in episode.series:
            recording.log(series.name, rerun.Scalars(series.values[step]))
        for name, pictures in episode.cameras.items():
            recording.log(f"cameras/{name}", _image(rerun, pictures[step]))
    recording.flush()
    recording.disconnect()  # closes the file


def _image(rerun: Any, picture: bytes | np.ndarray) -> Any:
    """What rerun logs for a picture: encoded ones stay encoded."""
    if not isinstance(picture, bytes):
        return rerun.Image(picture)
    media_type = "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"
    return rerun.EncodedImage(contents=picture, media_type=media_type)

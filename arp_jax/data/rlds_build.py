"""Building a TFDS folder once: finished and of the same arguments, it is left as it is.

In: a TFDS builder, or the parts of one, and the arguments that determine its result. Out: a folder
DATA_DIR/NAME/VERSION with ArrayRecord shards, `specs.json` (what the numbers mean) and `build.json`
(what it was made from). TFDS writes into a temporary folder and renames it when everything is
there. What an episode looks like is `episode_rlds.py`'s business.
"""

import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from arp_jax.data.rlds import DatasetSpecs

BUILD_FILE = "build.json"


class EpisodeBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A TFDS builder of one split "train", for datasets whose name and specs are known when run.

    Args:
        name: of the dataset.
        specs: what the numbers mean.
        features: of `episode_rlds.episode_features`.
        arguments: plain JSON values that determine the result.
        episodes: called once with the folder being built; yields (key, example) in the order of
            storage. It may write further files into the folder.
        description: of the dataset.
        **kwargs: of the TFDS builder, above all data_dir.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Where TFDS looks for checksums of downloads; there are none.
    code_path = None

    def __init__(
        self,
        *,
        name: str,
        specs: DatasetSpecs,
        features: tfds.features.FeaturesDict,
        arguments: Mapping[str, Any],
        episodes: Callable[[Path], Iterator[tuple[int, dict[str, Any]]]],
        description: str,
        **kwargs: Any,
    ) -> None:
        self.name, self.arguments = name, dict(arguments)
        self._specs, self._features = specs, features
        self._episodes, self._description = episodes, description
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._description,
            features=self._features,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(self.data_dir)
        write_sidecars(folder, self._specs, self.arguments)
        return {"train": self._episodes(folder)}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return self._episodes(Path(self.data_dir))


def prepare(builder: tfds.core.GeneratorBasedBuilder, arguments: Mapping[str, Any]) -> bool:
    """Builds the dataset's folder, or finds it finished.

    A folder of the final name is always complete: TFDS renames it at the end.

    Args:
        builder: whose `_split_generators` calls `write_sidecars` with the same `arguments`.
        arguments: plain JSON values that determine the result.

    Returns:
        True when it was built now, False when it was there already.

    Raises:
        ValueError: the folder was made with other arguments.
    """
    folder = Path(builder.data_dir)
    if not folder.exists():
        tfds.disable_progress_bar()  # the builders draw their own, with the right total
        builder.download_and_prepare()
        return True
    check_arguments(folder, arguments)
    return False


def check_arguments(folder: Path, arguments: Mapping[str, Any]) -> None:
    """Raises ValueError unless the folder's build.json agrees with the arguments."""
    try:
        found = json.loads((folder / BUILD_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: exists but has no readable {BUILD_FILE}; delete the folder to rebuild"
        ) from error
    for key, value in arguments.items():
        if found.get(key) != value:
            raise ValueError(
                f"{folder}: was built with {key}={found.get(key)!r}, asked for {value!r}; "
                "delete the folder or choose another --out"
            )


def prepare_in_run(folder: Path, make_builder: Callable[[], Any]) -> Path:
    """`prepare` without a word, for a dataset that a run writes into its own directory.

    Args:
        folder: the builder's `data_dir`; nothing of TFDS's own is left in it.
        make_builder: makes the builder, whose `arguments` determine the result.

    Returns:
        The dataset's folder (with features.json).

    Raises:
        ValueError: the folder was made with other arguments.
    """
    downloads = folder / "downloads"
    keep = downloads.exists()
    builder = make_builder()
    # TFDS leaves "*.incomplete..." folders behind when it is killed.
    for leftover in folder.glob(f"{builder.name}/*incomplete*"):
        shutil.rmtree(leftover, ignore_errors=True)
    # TFDS announces a download that does not take place, and makes a folder for it.
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            prepare(builder, builder.arguments)
    finally:
        if not keep:
            shutil.rmtree(downloads, ignore_errors=True)
    return Path(builder.data_dir)


def write_arguments(folder: Path, arguments: Mapping[str, Any]) -> None:
    """Writes build.json."""
    (folder / BUILD_FILE).write_text(json.dumps(dict(arguments), indent=1, sort_keys=True) + "\n")


def write_sidecars(folder: Path, specs: DatasetSpecs, arguments: Mapping[str, Any]) -> None:
    """Writes specs.json and build.json into a folder that is being built."""
    specs.write(folder)
    write_arguments(folder, arguments)


def run_build(make_builder: Callable[[], Any], summary: Callable[[Path], str]) -> int:
    """What a build command does once its flags are read; returns the exit status.

    Args:
        make_builder: opens the source and makes the TFDS builder, whose `arguments` determine the
            result. A ValueError from it or from building becomes one line on stderr and status 2.
        summary: dataset folder -> lines to print.
    """
    start = time.perf_counter()
    try:
        builder = make_builder()
        built = prepare(builder, builder.arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary(Path(builder.data_dir)))
    seconds = time.perf_counter() - start
    print(f"built in  {seconds:.1f} s" if built else "this dataset existed already: nothing to do")
    return 0

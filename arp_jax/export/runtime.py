"""Runs an exported policy with numpy, jax and safetensors alone: no flax, no training code.

Flows in: a folder written by `artifact.py`. Flows out: `Artifact.act`, raw observations (physical
units, uint8 images) to actions in physical units; normalisation is inside the compiled program.
Loading checks format version and the SHA-256 of every file and refuses a broken folder in one line.

Ahead of time, so that later starts find the compiled program in jax's cache:

    python -m arp_jax.export.runtime ARTIFACT --batch 1
"""

import argparse
import functools
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from arp_jax import compile_cache
from arp_jax.export.program import read_program
from arp_jax.export.weights import read_weights
from arp_jax.specs import PolicySpec

FORMAT = "arp_jax.artifact"
FORMAT_VERSION = 2
MANIFEST, PROGRAM, PARAMS, STATS = (
    "manifest.json",
    "policy.stablehlo",
    "params.safetensors",
    "stats.json",
)
# Row i of a batch draws its noise from fold_in(key(seed), i) with this generator, so that a row's
# actions do not depend on the rows beside it.
KEY_IMPLEMENTATION = "threefry2x32"


class ArtifactError(ValueError):
    """The folder is not a usable artifact; the message names the file and the reason."""


class Artifact:
    """A loaded policy.

    Attributes:
        manifest: the content of manifest.json.
        spec: what the policy sees and commands.
    """

    def __init__(self, manifest: dict[str, Any], exported: Any, params: list[Any]) -> None:
        self.manifest = manifest
        self.spec = PolicySpec.from_json(manifest["spec"])
        self._inputs = manifest["signature"]["observation"]
        self._params = jax.device_put(params)
        self._call = jax.jit(exported.call)

    def act(self, observation: Mapping[str, np.ndarray], seed: int = 0) -> np.ndarray:
        """Predicts chunks of actions.

        Args:
            observation: {name: [B, W, ...]}, features in physical units, images uint8.
            seed: of the sampling noise; equal seeds give equal actions.

        Returns:
            float32 [B, H, A] in physical units, within the limits of `spec.action`.

        Raises:
            ValueError: an observation is absent or has another shape or dtype; named.
        """
        arrays = self._checked(observation)
        batch = len(next(iter(arrays.values())))
        return np.asarray(self._call(self._params, arrays, row_keys(seed, batch)))

    def warm_up(self, batch: int = 1) -> float:
        """Compiles for a batch size, so that the first real call is quick; returns the seconds."""
        start = time.perf_counter()
        self.act(
            {
                name: np.zeros((batch, *entry["shape"][1:]), entry["dtype"])
                for name, entry in self._inputs.items()
            }
        )
        return time.perf_counter() - start

    def _checked(self, observation: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The named observations as the program wants them."""
        absent = [name for name in self._inputs if name not in observation]
        if absent:
            raise ValueError(f"observation {absent[0]!r} is absent; given: {sorted(observation)}")
        arrays = {}
        for name, entry in self._inputs.items():
            value = np.asarray(observation[name])
            # A float image or an integer feature is a different unit, not a different precision.
            if value.dtype.kind == "f" and entry["dtype"] == "float32":
                value = value.astype(np.float32)
            if str(value.dtype) != entry["dtype"] or list(value.shape[1:]) != entry["shape"][1:]:
                raise ValueError(
                    f"observation {name!r}: expected {entry['dtype']} {_shape(entry['shape'])}, "
                    f"found {value.dtype} {_shape(value.shape)}"
                )
            arrays[name] = value
        sizes = {name: len(value) for name, value in arrays.items()}
        if len(set(sizes.values())) > 1 or 0 in sizes.values():
            raise ValueError(f"observations need one batch size of at least 1, found {sizes}")
        return arrays


def load_artifact(folder: str | Path) -> Artifact:
    """Loads and checks an artifact.

    Raises:
        ArtifactError: the folder, a file in it, its version or its platform does not fit; one line.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, entry in manifest["files"].items():
        check_file(folder / name, entry["sha256"])
    platform = local_platform()
    if platform not in manifest["platforms"]:
        raise ArtifactError(
            f"{folder / PROGRAM} was exported for {manifest['platforms']}, not for {platform!r}; "
            f"export again with --platforms={platform}"
        )
    try:
        tensors = read_weights(folder / PARAMS, manifest["params"], manifest["weights"])
        params = [tensors[name] for name in manifest["params"]]
        exported = read_program(folder / PROGRAM, manifest, params)
    except ValueError as error:
        raise ArtifactError(f"{error}; or export the run again") from error
    return Artifact(manifest, exported, params)


def local_platform() -> str:
    """The platform that jax uses here, in the words of `jax.export`."""
    backend = jax.default_backend()
    return "cuda" if backend == "gpu" else backend


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads and checks manifest.json; raises ArtifactError naming it when it is not usable."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"{path} does not exist; make an artifact: python -m arp_jax.export_policy RUN"
        )
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{path} is not the manifest of an arp_jax artifact")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format version {manifest.get('format_version')}, this program reads "
            f"{FORMAT_VERSION}; export the run again"
        )
    if manifest.get("content_hash") != content_hash(manifest):
        raise ArtifactError(f"{path} was changed after the export (content_hash does not match)")
    return manifest


def check_file(path: Path, sha256: str) -> None:
    """Raises ArtifactError naming the file when it is absent or its hash differs."""
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; copy the whole artifact or export again")
    if file_hash(path) != sha256:
        raise ArtifactError(f"{path} is damaged: its SHA-256 is not the manifest's; export again")


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own hash."""
    content = {key: value for key, value in manifest.items() if key != "content_hash"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def row_keys(seed: int, batch: int) -> jax.Array:
    """Key data uint32 [B, 2] of a batch: fold_in(key(seed), row)."""
    return _row_keys(np.uint32(seed), batch)


@functools.partial(jax.jit, static_argnums=1)
def _row_keys(seed: jax.Array, batch: int) -> jax.Array:
    key = jax.random.key(seed, impl=KEY_IMPLEMENTATION)
    rows = jax.numpy.arange(batch, dtype=np.uint32)
    return jax.random.key_data(jax.vmap(lambda row: jax.random.fold_in(key, row))(rows))


def _shape(shape: Any) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"


def main(argv: Sequence[str]) -> int:
    """Loads an artifact, compiles it into the cache and says how long that took."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        "python -m arp_jax.export.runtime",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("artifact", type=Path, help="folder of `arp_jax.export_policy`")
    parser.add_argument("--batch", type=int, default=1, help="observations a call")
    flags = parser.parse_args(argv)
    if flags.batch < 1:
        parser.error(f"--batch must be at least 1, found {flags.batch}")
    cache = compile_cache.enable()
    start = time.perf_counter()
    try:
        artifact = load_artifact(flags.artifact)
    except ArtifactError as error:
        print(error, file=sys.stderr)
        return 2
    loaded = time.perf_counter() - start
    first = artifact.warm_up(flags.batch)
    second = artifact.warm_up(flags.batch)
    print(
        f"loaded in {loaded:.2f} s, first call {first:.2f} s, next {1e3 * second:.2f} ms; "
        f"compiled programs are kept in {cache}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

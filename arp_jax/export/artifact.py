"""Writes a trained policy as a folder that runs anywhere jax runs.

Flows in: policy, parameters, normaliser, statistics. Flows out: manifest.json, policy.stablehlo
(`jax.export`, several platforms, symbolic batch size), params.safetensors, stats.json. The artifact
is loaded back and compared with the live policy before it gets its name: what stands there is
complete and was seen to agree. Loading is `runtime.py`, which needs no flax.
"""

import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

import arp_jax
from arp_jax.export.program import write_program
from arp_jax.export.runtime import (
    FORMAT,
    FORMAT_VERSION,
    KEY_IMPLEMENTATION,
    MANIFEST,
    PARAMS,
    PROGRAM,
    STATS,
    Artifact,
    content_hash,
    file_hash,
    load_artifact,
    local_platform,
    row_keys,
)
from arp_jax.export.weights import read_weights, write_weights
from arp_jax.normalize import Normalizer, Stats, normalizer_to_json, stats_hash, stats_to_json
from arp_jax.policies.base import Params, Policy, make_physical_act
from arp_jax.policies.preprocessed import describe_images
from arp_jax.specs import PolicySpec

PLATFORMS = ("cpu", "cuda", "tpu")
# Largest difference between artifact and live policy, as a share of half the action range. Both are
# float32 and rounded in another order, which generation in many passes amplifies: 2.5e-5 was seen
# with a right program. A wrong one is off by far more.
PARITY_TOLERANCE = 1e-4
_LATENCY_CALLS = 50
_ERROR_OBSERVATIONS = 32


@dataclasses.dataclass(frozen=True)
class ExportSource:
    """What is exported, and where it comes from.

    Attributes:
        policy, params, normalizer, stats: as `training.checkpoint.load_run` returns them.
        name: of the policy, e.g. "arp".
        provenance: plain JSON values to keep: run, step, git revision...
    """

    policy: Policy
    params: Params
    normalizer: Normalizer
    stats: Stats
    name: str
    provenance: Mapping[str, Any]


def write_artifact(
    source: ExportSource,
    out: Path,
    platforms: Sequence[str] = PLATFORMS,
    weights: str = "float32",
) -> dict[str, Any]:
    """Exports a policy; returns the manifest.

    Args:
        source: the trained policy.
        out: the artifact's folder; an existing artifact there is replaced, and only when the new
            one is complete.
        platforms: some of "cpu", "cuda", "tpu", this machine's among them.
        weights: how parameters are kept, of `weights.KINDS`.

    Raises:
        ValueError: unknown platform or kind of weights; a folder at `out` that is no artifact; or
            the loaded artifact disagrees with the live policy.
    """
    _check_platforms(platforms)
    if out.exists() and not (out / MANIFEST).exists() and (out.is_file() or any(out.iterdir())):
        raise ValueError(f"--out: {out} exists and is no artifact; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the final rename stays within one file system.
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        manifest = _write_files(source, temporary, platforms, weights)
        artifact = load_artifact(temporary)
        # Latency first: its first call compiles, as a server's would.
        manifest["latency"] = measure_latency(artifact)
        # The program is compared with the live policy of the same weights, then those weights
        # with the trained ones: a rounded weight must not hide a wrong program.
        stored = dataclasses.replace(source, params=_stored_params(source, temporary, manifest))
        manifest["parity"] = measure_parity(stored, artifact)
        if weights != "float32":
            manifest["weights"]["error"] = measure_weight_error(source, stored)
        _write_manifest(temporary, manifest)
        _replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def export_program(source: ExportSource, platforms: Sequence[str]) -> jax.export.Exported:
    """Lowers (params [list], observation {name: [b, W, ...]}, keys uint32 [b, 2]) -> [b, H, A].

    The policy itself sees a batch of one under `vmap`: it never meets a symbolic size, and each row
    draws its own noise.
    """
    act = make_physical_act(source.policy, source.normalizer)
    leaves, treedef = jax.tree.flatten(source.params)

    def act_rows(
        flat: list[jax.Array], observation: dict[str, jax.Array], keys: jax.Array
    ) -> jax.Array:
        params = jax.tree.unflatten(treedef, flat)

        def act_row(row: dict[str, jax.Array], key_data: jax.Array) -> jax.Array:
            key = jax.random.wrap_key_data(key_data, impl=KEY_IMPLEMENTATION)
            return act(params, {name: value[None] for name, value in row.items()}, key)[0]

        return jax.vmap(act_row)(observation, keys)

    (batch,) = jax.export.symbolic_shape("b")
    observation = {
        name: jax.ShapeDtypeStruct((batch, *shape), dtype)
        for name, (dtype, shape) in source.policy.spec.observation_shapes.items()
    }
    return jax.export.export(jax.jit(act_rows), platforms=tuple(platforms))(
        [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves],
        observation,
        jax.ShapeDtypeStruct((batch, 2), np.uint32),
    )


def measure_parity(source: ExportSource, artifact: Artifact) -> dict[str, Any]:
    """Compares the artifact with the live policy on random observations.

    Raises:
        ValueError: they differ by more than `PARITY_TOLERANCE`.
    """
    act = jax.jit(make_physical_act(source.policy, source.normalizer))
    spec = source.policy.spec
    half_range = (np.asarray(spec.action.high) - np.asarray(spec.action.low)) / 2
    worst, cases = 0.0, 0
    for seed, batch in ((0, 1), (1, 3)):
        observation = random_observation(spec, batch, seed)
        found = artifact.act(observation, seed)
        keys = jax.random.wrap_key_data(row_keys(seed, batch), impl=KEY_IMPLEMENTATION)
        for row in range(batch):
            one = {name: jnp.asarray(value[row : row + 1]) for name, value in observation.items()}
            expected = np.asarray(act(source.params, one, keys[row]))[0]
            worst = max(worst, float(np.max(np.abs(found[row] - expected) / half_range)))
            cases += 1
    if not worst <= PARITY_TOLERANCE:
        raise ValueError(
            f"the exported program differs from the live policy by {worst:.2e} of half the action "
            f"range (limit {PARITY_TOLERANCE:.0e}); nothing was written"
        )
    return {
        "max_difference": worst,
        "unit": "share of half the action range",
        "tolerance": PARITY_TOLERANCE,
        "observations": cases,
        "platform": jax.default_backend(),
    }


def measure_weight_error(source: ExportSource, stored: ExportSource) -> dict[str, Any]:
    """What the rounding of weights changes: actions of both for the same observations and noise.

    A policy that samples can jump to another mode; the median says how often that matters.
    """
    act = jax.jit(make_physical_act(source.policy, source.normalizer))
    spec = source.policy.spec
    half_range = (np.asarray(spec.action.high) - np.asarray(spec.action.low)) / 2
    differences = []
    for seed in range(_ERROR_OBSERVATIONS):
        observation = random_observation(spec, 1, seed)
        key = jax.random.key(seed, impl=KEY_IMPLEMENTATION)
        rounded, exact = (act(side.params, observation, key)[0] for side in (stored, source))
        differences.append(np.abs(np.asarray(rounded) - np.asarray(exact)) / half_range)
    return {
        "max_difference": float(np.max(differences)),
        "mean_difference": float(np.mean(differences)),
        "median_of_maxima": float(np.median([np.max(d) for d in differences])),
        "unit": "share of half the action range",
        "observations": _ERROR_OBSERVATIONS,
    }


def measure_latency(artifact: Artifact) -> dict[str, Any]:
    """Wall time of `act` at batch size 1 on this machine, each until its result is on the host."""
    first = artifact.warm_up()
    observation = random_observation(artifact.spec, 1, seed=2)
    times = []
    for seed in range(_LATENCY_CALLS):
        start = time.perf_counter()
        artifact.act(observation, seed)
        times.append(1e3 * (time.perf_counter() - start))
    return {
        "first_call_s": first,
        "median_ms": float(np.median(times)),
        "p95_ms": float(np.percentile(times, 95)),
        "calls": _LATENCY_CALLS,
        "batch": 1,
        "device": jax.devices()[0].device_kind,
        "method": "host clock round act(), numpy in to numpy out, after one warm-up call",
    }


def random_observation(spec: PolicySpec, batch: int, seed: int) -> dict[str, np.ndarray]:
    """Observations {name: [B, W, ...]} drawn uniformly within the limits (unlimited: +-1)."""
    rng = np.random.default_rng(seed)
    limits = {
        f.name: (-1.0 if f.low is None else f.low, 1.0 if f.high is None else f.high)
        for f in spec.observation.features
    }
    observation = {}
    for name, (dtype, shape) in spec.observation_shapes.items():
        if dtype == "uint8":
            observation[name] = rng.integers(0, 256, (batch, *shape), dtype=np.uint8)
        else:
            low, high = limits[name]
            observation[name] = rng.uniform(low, high, (batch, *shape)).astype(np.float32)
    return observation


def _check_platforms(platforms: Sequence[str]) -> None:
    """Raises ValueError for an unknown platform, or when this machine's own is absent."""
    for platform in platforms:
        if platform not in PLATFORMS:
            raise ValueError(f"--platforms: {platform!r} is unknown; choose from {PLATFORMS}")
    if local_platform() not in platforms:
        raise ValueError(
            f"--platforms needs {local_platform()!r} too: the artifact is checked on this machine"
        )


def _write_files(
    source: ExportSource, folder: Path, platforms: Sequence[str], weights: str
) -> dict[str, Any]:
    """Writes all files and a manifest without measurements; returns the manifest."""
    leaves = jax.tree_util.tree_leaves_with_path(source.params)
    names = ["/".join(str(getattr(k, "key", k)) for k in path) for path, _ in leaves]
    tensors = {name: np.ascontiguousarray(x) for name, (_, x) in zip(names, leaves, strict=True)}
    kept = write_weights(tensors, weights, folder / PARAMS)  # a wrong kind fails before the export
    exported = export_program(source, platforms)
    program = write_program(exported, folder / PROGRAM)
    (folder / STATS).write_text(json.dumps(stats_to_json(source.stats), indent=1) + "\n")
    spec = source.policy.spec
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "policy": source.name,
        "spec": spec.to_json(),
        "stats_hash": stats_hash(source.stats),
        "preprocessing": _preprocessing(source),
        "signature": _signature(spec),
        "params": names,
        "weights": kept,
        "program": program,
        "parameter_count": int(sum(x.size for x in tensors.values())),
        "platforms": list(platforms),
        "provenance": dict(source.provenance),
        "versions": {"arp_jax": arp_jax.__version__, "jax": jax.__version__},
        "calling_convention_version": exported.calling_convention_version,
        "files": {
            name: {"sha256": file_hash(folder / name), "bytes": (folder / name).stat().st_size}
            for name in (PROGRAM, PARAMS, STATS)
        },
    }
    _write_manifest(folder, manifest)
    return manifest


def _stored_params(source: ExportSource, folder: Path, manifest: dict[str, Any]) -> Params:
    """The parameters as the artifact's reader gets them."""
    found = read_weights(folder / PARAMS, manifest["params"], manifest["weights"])
    treedef = jax.tree.structure(source.params)
    return jax.tree.unflatten(treedef, [found[name] for name in manifest["params"]])


def _preprocessing(source: ExportSource) -> dict[str, Any]:
    """What the program does to its inputs and outputs, and the hash of that."""
    steps = {
        "inside_program": True,
        "features": "(x - offset) / scale per dimension, raw where absent",
        "images": "uint8 as the camera gives them; cropping and scaling are in the program",
        "cameras": describe_images(source.policy),
        "action": "unnormalised and clipped to the limits",
        "normalizer": normalizer_to_json(source.normalizer),
    }
    return {**steps, "content_hash": content_hash(steps)}


def _signature(spec: PolicySpec) -> dict[str, Any]:
    return {
        "observation": {
            name: {"dtype": dtype, "shape": ["b", *shape]}
            for name, (dtype, shape) in spec.observation_shapes.items()
        },
        "rng": {"dtype": "uint32", "shape": ["b", 2], "implementation": KEY_IMPLEMENTATION},
        "action": {"dtype": "float32", "shape": ["b", spec.horizon, spec.action.size]},
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["content_hash"] = content_hash(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _replace(temporary: Path, out: Path) -> None:
    """Gives the finished folder its name; an older artifact is removed only afterwards."""
    for path in temporary.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    temporary.chmod(0o755)  # mkdtemp's 0700 would hide the artifact from other users
    old = None
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
        out.rename(old / "artifact")
    temporary.rename(out)
    if old is not None:
        shutil.rmtree(old)

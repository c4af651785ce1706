"""An artifact in words: everything that its manifest says, for a person at a terminal.

A manifest flows in, lines of text flow out. Nothing is measured or checked here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arp_jax.specs import PolicySpec


def describe(folder: Path, manifest: Mapping[str, Any]) -> str:
    """What the artifact is, sees and commands, and what was measured when it was exported."""
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    rows = {
        "artifact": f"{folder} ({size / 1e6:.1f} MB, format {manifest['format_version']})",
        "policy": f"{manifest['policy']}, {manifest['parameter_count']:,} parameters",
        "weights": _weights(manifest["weights"]),
        "from": ", ".join(f"{k} {v}" for k, v in manifest["provenance"].items()),
        "made with": ", ".join(f"{k} {v}" for k, v in manifest["versions"].items()),
        **_spec_rows(PolicySpec.from_json(manifest["spec"]), manifest["signature"]),
        "prepares": _prepares(manifest["preprocessing"]),
        "statistics": f"hash {manifest['stats_hash'][:12]}",
        "platforms": ", ".join(manifest["platforms"]),
        "parity": _parity(manifest["parity"]),
        "latency": _latency(manifest["latency"]),
    }
    for name, entry in manifest["files"].items():
        rows[name] = f"{entry['bytes']:,} bytes, SHA-256 {entry['sha256'][:16]}"
    rows["content"] = f"hash {manifest['content_hash']}"
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def _spec_rows(spec: PolicySpec, signature: Mapping[str, Any]) -> dict[str, str]:
    """A row for each thing that is seen, and what is commanded."""
    rows = {}
    for feature in spec.observation.features:
        limits = _limits(feature.dims, feature.low, feature.high)
        rows[f"sees {feature.name}"] = (
            f"{_array(signature['observation'][feature.name])} {feature.unit}, {feature.frame}: "
            + limits
        )
    for camera in spec.observation.cameras:
        rows[f"sees {camera.name}"] = (
            f"{_array(signature['observation'][camera.name])} {camera.color_order}"
        )
    action = spec.action
    kinds = {True: "targets", False: "changes"}
    absolute = " and ".join(kinds[kind] for kind in sorted(set(action.absolute), reverse=True))
    rows["commands"] = (
        f"{_array(signature['action'])} {action.unit}, {action.frame}, {absolute}: "
        + _limits(action.dims, action.low, action.high)
    )
    rows["in time"] = (
        f"{action.rate_hz:g} Hz, {spec.window} observations, chunks of {spec.horizon} from offset "
        f"{spec.action_offset}" + (f", gripper {action.gripper}" if action.gripper else "")
    )
    return rows


def _limits(
    dims: tuple[str, ...], low: tuple[float, ...] | None, high: tuple[float, ...] | None
) -> str:
    """E.g. "x 0..512, y 0..512"."""
    if low is None or high is None:
        return ", ".join(dims)
    return ", ".join(
        f"{name} {lo:.4g}..{hi:.4g}" for name, lo, hi in zip(dims, low, high, strict=True)
    )


def _weights(section: Mapping[str, Any]) -> str:
    text = f"{section['kind']}, {section['bytes'] / 1e6:.1f} MB"
    if "error" not in section:
        return text
    error = section["error"]
    return (
        f"{text} (float32: {section['float32_bytes'] / 1e6:.1f} MB); actions differ by "
        f"{error['mean_difference']:.1e} on average, {error['median_of_maxima']:.1e} at most in "
        f"half of {error['observations']} observations, {error['max_difference']:.1e} at most in "
        f"all ({error['unit']})"
    )


def _parity(parity: Mapping[str, Any]) -> str:
    return (
        f"{parity['max_difference']:.1e} {parity['unit']} ({parity['observations']} observations, "
        f"limit {parity['tolerance']:.0e}, on {parity['platform']})"
    )


def _latency(latency: Mapping[str, Any]) -> str:
    return (
        f"median {latency['median_ms']:.2f} ms, p95 {latency['p95_ms']:.2f} ms, first call "
        f"{latency['first_call_s']:.1f} s ({latency['device']}, batch {latency['batch']})"
    )


def _prepares(steps: Mapping[str, Any]) -> str:
    """What the program does to images, and the hash of all preprocessing."""
    texts = [
        f"{camera}: {', '.join(f'{k} {v}' for k, v in options.items())}"
        for camera, options in steps.get("cameras", {}).items()
    ]
    return "; ".join([*texts, f"hash {steps.get('content_hash', 'unknown')[:12]}"])


def _array(entry: Mapping[str, Any]) -> str:
    """E.g. "float32 [b, 2, 16]"."""
    return f"{entry['dtype']} [{', '.join(str(size) for size in entry['shape'])}]"

"""Compiled programs are kept on disk, so that the second start of anything is quick.

Call `enable()` once, at the top of an entry point and before the first compilation. Nothing flows
out but a folder: $JAX_COMPILATION_CACHE_DIR when set (jax reads that by itself), otherwise one
under ~/.cache/arp_jax. Imports jax only when called.
"""

import hashlib
import os
import platform
from pathlib import Path


def enable() -> Path:
    """Turns jax's persistent compilation cache on and returns its folder."""
    import jax

    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = Path(given) if given else _default_folder()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Programs that compile faster than this are not worth a file.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder


def _default_folder() -> Path:
    """~/.cache/arp_jax/compiled/<kind of CPU>.

    A CPU program holds instructions of the machine that compiled it: machines that share a home
    directory must not share these files.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kind = hashlib.sha256(_cpu_features().encode()).hexdigest()[:12]
    return root / "arp_jax" / "compiled" / kind


def _cpu_features() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"

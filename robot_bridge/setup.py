"""The light package for the robot's computer: robot_bridge and the few modules of arp_jax it uses.

`pip install ./robot_bridge` in a checkout; no jax, flax or TensorFlow. Who trains on the same
machine installs the root package instead, which contains this one: one of the two in an
environment, never both (docs/decisions/0008-two-packages-one-tree.md).
"""

import atexit
import re
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "arp_jax/__init__.py").read_text()
VERSION = next(re.finditer(r'__version__ = "(.+?)"', TEXT))[1]

# Of arp_jax: specs, chunk execution, the messages and the server of policies, the runtime of
# artifacts, the arm's model. A test compares this list with what is really imported.
SHARED = {
    "arp_jax": ["__init__", "compile_cache", "serve", "specs"],
    "arp_jax.control": ["*"],
    "arp_jax.export": [
        "__init__",
        "inference_queue",
        "program",
        "protocol",
        "runtime",
        "server",
        "server_metrics",
        "weights",
    ],
    "arp_jax.sim": ["__init__", "render", "scene"],
    "arp_jax.sim.mycobot": ["__init__", "arm", "bench_scene", "tools"],
}
REQUIRES = ["msgpack", "numpy", "prometheus-client", "pyserial", "simplejpeg", "websockets>=17"]
EXTRAS = {
    "cameras": ["opencv-python-headless"],
    "twin": ["mujoco>=3.17,<4.1"],
    "pymycobot": ["pymycobot>=4.0.7"],
    # Policies on this computer: exported artifacts run in a process of their own.
    "local": ["jax>=0.10", "safetensors"],
}


class BuildShared(build_py):
    """Takes of arp_jax only what `SHARED` names."""

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        wanted = SHARED.get(package, ["*"])
        if package == "robot_bridge":
            return [module for module in modules if module[1] != "setup"]
        return [module for module in modules if "*" in wanted or module[1] in wanted]


def scratch() -> str:
    """A folder for this process only: nothing is left in the checkout."""
    folder = tempfile.mkdtemp(prefix="robot-bridge-build-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


setup(
    name="robot-bridge",
    version=VERSION,
    description="Runs policies on a myCobot 320: safety, twin, recorder, web page",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"robot_bridge": ".", "arp_jax": "../arp_jax"},
    packages=[*find_packages("..", include=["robot_bridge*"]), *SHARED],
    package_data={"robot_bridge": ["*.toml", "deploy/*", "web/*"]},
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["robot-bridge = robot_bridge.__main__:main"]},
    cmdclass={"build_py": BuildShared},
    options={"build": {"build_base": scratch()}, "egg_info": {"egg_base": scratch()}},
)

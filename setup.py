"""Packaging of arp_jax. Versions that were tested together are pinned in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "arp_jax/__init__.py").read_text()).group(1)

CORE = [
    "absl-py",
    "array_record",
    "chex",
    "flax>=0.12",
    "flatbuffers",  # jax.export writes with it
    "google-crc32c",
    "h5py",
    "imageio",
    "imageio-ffmpeg",
    "jax>=0.10",
    "jinja2",
    "matplotlib",
    "ml-collections",
    "ml_dtypes",
    "msgpack",  # the bridge's episode log
    "mujoco>=3.17,<4.1",
    "mujoco-mjx>=3.17,<4.1",
    "numcodecs",
    "numpy",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12",
    "pillow",
    "prometheus-client",  # the policy server's metrics
    "pyserial",  # the bridge's line to an arm
    "rich",
    "safetensors",
    "scikit-learn",  # the digits demonstration: images and a classifier
    "scipy",
    "simplejpeg",  # decodes the pictures of a pack, several at a time
    "tensorflow-datasets>=4.9.10",
    "tqdm",
    "websockets>=17",  # policy server, bridge, its page
]

EXTRAS = {
    # Reading from gs:// and streaming tf.data mixtures; nothing needs it for training.
    "tf": ["tensorflow-cpu", "rlds"],
    # LeRobot datasets (parquet and mp4), in and out.
    "lerobot": ["av", "pyarrow"],
    # Episodes as recordings for the rerun viewer.
    "rerun": ["rerun-sdk"],
    # A real arm and its cameras.
    "hw": ["opencv-python-headless", "pymycobot>=4.0.7"],
    # MJX through NVIDIA Warp.
    "warp": ["mujoco-mjx[warp]"],
    # Importing PyTorch checkpoints that are not .npz or .safetensors.
    "torch-import": ["torch==2.13.0"],
    "tensorboard": ["tensorboardX"],
    "wandb": ["wandb"],
    # Our tasks as gymnasium environments, and other people's environments in our evaluator.
    "gym": ["gymnasium>=1.0"],
    "dev": [
        "av",
        "gym-pusht==0.1.8",
        "gymnasium>=1.0",
        "hypothesis",
        "mypy",
        "opencv-python",
        "pyarrow",
        "pymycobot==4.0.7",
        "pytest",
        "pytest-xdist",
        "ruff",
        "shapely",
        "zarr",
    ],
}

setup(
    name="arp_jax",
    version=VERSION,
    description="Robot policies in JAX: from demonstrations to a moving robot",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # configs: experiments import their common part from wherever they are started.
    packages=[*find_packages(include=["arp_jax*", "robot_bridge*"]), "configs"],
    package_data={
        "arp_jax": ["sim/assets/*.xml", "evaluation/*.html", "data/*.html", "data/checks/*.html"],
        "robot_bridge": ["*.toml", "deploy/*", "web/*"],
    },
    # The robot's computer installs robot_bridge/setup.py instead, which has no jax.
    entry_points={"console_scripts": ["robot-bridge = robot_bridge.__main__:main"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)

"""What the tests of packing share: a toy dataset's sizes, a folder's bytes, an old pack."""

import json

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from arp_jax.data.pack_plan import content_hash, select
from arp_jax.data.records import group_dtype
from arp_jax.data.stats import compute_stats
from arp_jax.data.store import checksum
from arp_jax.normalize import stats_to_json
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes

LENGTHS = [5, 1, 9, 4, 7, 3]
NAMES = ["agent_pos", "image"]
# One or two episodes a shard.
SHARD_BYTES = 400


def contents(folder):
    """{name: bytes} of all files but the lock."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.startswith(".lock")}


def write_version_1(folder, source):
    """The pack that the first release wrote of `synthetic_episodes(LENGTHS)`: one shard."""
    folder.mkdir()
    episodes = synthetic_episodes(LENGTHS)
    features = {
        "agent_pos": {"dtype": "float32", "shape": [2], "group": "vectors"},
        "image": {"dtype": "uint8", "shape": [4, 4, 3], "group": "images"},
        "action": {"dtype": "float32", "shape": [2], "group": "vectors"},
    }
    files = {}
    for group, options in {"vectors": "group_size:64", "images": "group_size:1"}.items():
        dtype = group_dtype(features, group)
        path = folder / f"{group}-00000.array_record"
        writer = ArrayRecordWriter(str(path), options)
        for episode in episodes:
            rows = np.empty(len(episode["action"]), dtype)
            for name in dtype.names:
                rows[name] = episode[name]
            for row in rows:
                writer.write(row.tobytes())
        writer.close()
        files[group] = {"name": path.name, "bytes": path.stat().st_size, "crc32": checksum(path)}
    selection, opened = select(source, "train", NAMES, "encoded", {}, None)
    positions = [{"observation": {"agent_pos": e["agent_pos"]}, **e} for e in episodes]
    meta = {
        "format": "arp_jax.pack",
        "format_version": 1,
        "content_hash": content_hash(opened, selection, version=1),
        "source": "toy/1.0.0",
        "split": "train",
        "features": features,
        "specs": {"observation": OBSERVATION_SPEC.to_json(), "action": ACTION_SPEC.to_json()},
        "stats": stats_to_json(compute_stats(positions)),
        "shards": [{"episode_lengths": LENGTHS, "files": files}],
    }
    (folder / "meta.json").write_text(json.dumps(meta) + "\n")
    return folder

"""Demonstrations in robomimic's layout, as its own scripts write them with h5py."""

import json

import numpy as np

LENGTHS = (4, 6, 5)
OSC_POSE = {
    "type": "OSC_POSE", "input_max": 1, "input_min": -1, "control_delta": True,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
}  # fmt: skip
ENV_ARGS = {
    "env_name": "Lift", "type": 1,
    "env_kwargs": {"control_freq": 20, "controller_configs": OSC_POSE},
}  # fmt: skip


def demo_arrays(number, steps=None, size=7):
    """Arrays of demonstration `number` by their path under data/demo_N."""
    steps = LENGTHS[number % 3] if steps is None else steps
    rng = np.random.default_rng(number)
    dones = np.zeros(steps, np.int64)
    dones[-1:] = number != 1
    return {
        "actions": rng.uniform(-1, 1, (steps, size)),
        "rewards": rng.uniform(size=steps),
        "dones": dones,
        "states": rng.normal(size=(steps, 32)),
        "action_dict/abs_pos": rng.normal(size=(steps, 3)),
        "obs/robot0_eef_pos": rng.normal(size=(steps, 3)),
        "obs/robot0_gripper_qpos": rng.normal(size=(steps, 2)),
        "obs/object": rng.normal(size=(steps, 10)),
        "obs/agentview_image": rng.integers(0, 256, (steps, 12, 16, 3), dtype=np.uint8),
        "obs/agentview_depth": rng.uniform(size=(steps, 12, 16, 1)).astype(np.float32),
        "next_obs/object": rng.normal(size=(steps, 10)),
    }


def write_robomimic(path, demos=None, *, env_args=ENV_ARGS, masks=None, **attributes):
    """Writes {name: arrays} (demo_0, demo_1 and demo_10 unless given)."""
    import h5py

    if demos is None:
        demos = {f"demo_{n}": demo_arrays(i) for i, n in enumerate((0, 1, 10))}
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if env_args is not None:
            data.attrs["env_args"] = json.dumps(env_args, indent=4)
        for name, value in attributes.items():
            data.attrs[name] = value
        for name, arrays in demos.items():
            group = data.create_group(name)
            for key, values in arrays.items():
                group.create_dataset(key, data=values)
            group.attrs["num_samples"] = len(arrays.get("actions", ()))
        for key, names in (masks or {}).items():
            file[f"mask/{key}"] = np.array(names, "S8")
    return path

"""What ACT's loaders hand out, and what our data path makes of the same episodes.

The episodes of the golden file are written as HDF5, read, stacked and cut by our own code; loaders'
items are compared where both say that an action was recorded. Three differences are ours on
purpose, and are written down here:

- Behind the end we repeat the last action where the loaders have zeros (in raw units): masked.
- Statistics of a shifted dataset are of the shifted actions.
- Of a real robot's episode, whose actions are shifted by one, the loaders begin with the unshifted
  chunk at step 0, and their last chunks have one action more than ours.
"""

import re

import numpy as np
import pytest

from arp_jax.data.formats import act_hdf5_read as act
from arp_jax.data.formats.act_convert import ActJob, ActOptions, read_arrays
from arp_jax.data.formats.array_episodes import PictureCoding
from arp_jax.data.stats import RunningStats
from arp_jax.data.windows import window_table
from arp_jax.normalize import Affine, normalize
from arp_jax.policies.act import action_l1
from tests.data.act_files import write_act
from tests.golden_files import GoldenCheck, load_golden
from tests.interop.act_golden_kinds import EPISODES, files_of

LEAST_STD = 1e-2  # of the loaders


def episodes(golden, loader, options, sim, folder):
    """Arrays of every episode of one loader, through a file and our reader."""
    found = []
    keys = {"qpos": "observations/qpos", "image": "observations/images/top"}
    for number, real in enumerate(~np.asarray(sim)):
        prefix = f"in/{loader}/{number}/"
        arrays = {keys.get(k, k): golden[prefix + k] for k in ("qpos", "action", "image")}
        if f"{prefix}base_action" in golden:
            arrays["base_action"] = golden[f"{prefix}base_action"]
        path = write_act(folder / loader / f"episode_{number}.hdf5", arrays, sim=not real)
        episode = act.read_episode(path, ("top",), PictureCoding("png"))
        found.append(read_arrays(ActJob(path, path.name, None), options, episode))
    return found


def is_sim(golden, loader):
    """Per episode: whether the loader's items show no shift (no item shows: not shifted)."""
    lengths = [len(golden[f"in/{loader}/{i}/action"]) for i in range(3)]
    sim = [True] * 3
    for _, number, step, item in items(golden, loader, lengths):
        raw = golden[f"in/{loader}/{number}/action"]
        first = item["action"][0] * golden[f"out/{loader}/action_std"]
        first = (first + golden[f"out/{loader}/action_mean"])[: raw.shape[1]]
        if step > 0:
            sim[number] = bool(np.abs(first - raw[step]).max() < 1e-4)
    return sim


def items(golden, loader, lengths):
    """(name, episode, step, {key: array}) of every item of ACT's part of a loader."""
    pattern = {"act": r"item_ep(\d+)_t(\d+)", "pp": r"ACT_(\d+)()"}[loader]
    for name in sorted({k.split("/")[2] for k in golden if k.startswith(f"out/{loader}/")}):
        match = re.fullmatch(pattern, name)
        if match is None:
            continue
        if loader == "act":
            number, step = int(match[1]), int(match[2])
        else:  # a step of all episodes together
            ends = np.cumsum(lengths)
            number = int(np.searchsorted(ends, int(match[1]), side="right"))
            step = int(match[1]) - int(ends[number] - lengths[number])
        prefix = f"out/{loader}/{name}/"
        arrays = {k.removeprefix(prefix): golden[k] for k in golden if k.startswith(prefix)}
        yield name, number, step, arrays


def check_statistics(check, golden, loader, arrays):
    for name in ("action", "qpos"):
        stats = RunningStats()
        for episode in arrays:
            stats.update(episode[name])
        found = stats.result()
        rows = found.count
        # Theirs divides by n - 1 and has a floor.
        std = np.maximum(found.std * np.sqrt(rows / (rows - 1)), LEAST_STD)
        check.compare(f"{name} mean", found.mean, golden[f"out/{loader}/{name}_mean"])
        check.compare(f"{name} std", std, golden[f"out/{loader}/{name}_std"])
        if f"out/{loader}/{name}_min" in golden:
            # The reference widens both ends a little for Diffusion Policy.
            check.compare(f"{name} min", found.min - 1e-4, golden[f"out/{loader}/{name}_min"])
            check.compare(f"{name} max", found.max + 1e-4, golden[f"out/{loader}/{name}_max"])


@pytest.mark.golden
@pytest.mark.parametrize("loader", ["act", "pp"])
@pytest.mark.parametrize("path", files_of(EPISODES), ids=lambda p: p.stem)
def test_items_of_the_loaders(path, loader, tmp_path, capsys):
    golden, check = load_golden(path), GoldenCheck(f"{path.stem} {loader}")
    sim = is_sim(golden, loader)
    assert not all(sim), "one episode is of a real robot"
    base = {"base": True, "smooth_base": True} if loader == "pp" else {}
    coding = PictureCoding("png")
    plain = episodes(golden, loader, ActOptions(coding, **base), sim, tmp_path / "plain")
    shifted = ActOptions(coding, shift_real=True, **base)
    arrays = episodes(golden, loader, shifted, sim, tmp_path / "shifted")
    check_statistics(check, golden, loader, plain)
    affine = {
        name: Affine(golden[f"out/{loader}/{name}_mean"], golden[f"out/{loader}/{name}_std"])
        for name in ("action", "qpos")
    }
    lengths = [len(episode["action"]) for episode in arrays]
    action, qpos = (np.concatenate([e[k] for e in arrays]) for k in ("action", "qpos"))
    compared = 0
    for name, number, step, item in items(golden, loader, lengths):
        horizon = len(item["action"])
        table = window_table(lengths, 1, horizon)
        example = np.flatnonzero((table.episode == number) & (table.step == step))
        ours = normalize(action[table.action_steps(example)[0]], affine["action"])
        ours_pad, theirs_pad = table.action_is_pad(example)[0], item["is_pad"].astype(bool)
        state = normalize(qpos[table.current_steps(example)[0]], affine["qpos"])
        check.compare(f"{name} qpos", state, item["qpos"])
        late = not sim[number] and step == 0  # their first chunk is not shifted, ours is
        one_less = not sim[number] and step > 0
        kept = ~(ours_pad | theirs_pad)
        if late:
            check.compare(f"{name} action", ours[1:][kept[1:]], item["action"][:-1][kept[1:]])
        else:
            check.compare(f"{name} action", ours[kept], item["action"][kept])
        if not late:
            assert (ours_pad ^ theirs_pad).sum() == (one_less and bool(ours_pad.any()))
        # Zeros in raw units were written before normalisation: the loss must not see them.
        padding = normalize(np.zeros_like(ours), affine["action"])
        check.compare(f"{name} padding", item["action"][theirs_pad], padding[theirs_pad])
        predicted = np.zeros_like(ours)
        with_theirs = np.where(ours_pad[:, None], padding, ours)
        check.compare(
            f"{name} loss",
            action_l1(predicted[None], ours[None], ours_pad[None]),
            action_l1(predicted[None], with_theirs[None], ours_pad[None]),
        )
        compared += 1
    assert compared >= 4
    check.finish(capsys)


@pytest.mark.golden
@pytest.mark.parametrize("path", files_of(EPISODES), ids=lambda p: p.stem)
def test_base_velocities_are_smoothed(path, capsys):
    golden, check = load_golden(path), GoldenCheck(f"{path.stem} base")
    for key in (k for k in golden if k.startswith("out/pp/base_smoothed_")):
        base = golden[f"in/pp/{key.rsplit('_', 1)[1]}/base_action"]
        check.compare(key, act.smooth_base(base), golden[key])
    check.finish(capsys)

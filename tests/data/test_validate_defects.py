"""Every planted defect is found at its place, and nothing else is reported.

Each case spoils one thing in a good dataset of ten episodes; good datasets of all sorts are in
`test_validate_good.py`.
"""

import numpy as np
import pytest

from arp_jax.data.images import encode_image
from tests.data.defect_sets import (
    HEIGHT,
    RATE,
    WIDTH,
    arm_episodes,
    findings_of,
    write_raw_episodes,
)


def cut(episode, begin, end):
    """Steps [begin, end) of a raw episode, its flags where they belong."""
    cut_ = {k: v[begin:end] for k, v in episode.items() if k != "observation"}
    cut_["observation"] = {k: v[begin:end].copy() for k, v in episode["observation"].items()}
    steps = np.arange(len(cut_["action"]))
    last = steps == steps[-1]
    cut_ |= {"is_first": steps == 0, "is_last": last, "is_terminal": last}
    return cut_


def _one_step(episodes):
    episodes[3] = cut(episodes[3], 0, 1)


def _far_too_short(episodes):
    episodes[4] = cut(episodes[4], 0, 5)


def _far_too_long(episodes):
    twice = episodes[2]
    for _ in range(5):
        twice = {
            k: np.concatenate([v, twice[k]]) for k, v in episodes[2].items() if k != "observation"
        } | {
            "observation": {
                k: np.concatenate([v, twice["observation"][k]])
                for k, v in episodes[2]["observation"].items()
            }
        }
    episodes[2] = cut(twice, 0, 300)
    episodes[2]["observation"]["timestamp"] = np.arange(300) / RATE
    # The start of a repetition is a jump: glide there instead.
    for name, group in (("action", episodes[2]), ("state", episodes[2]["observation"])):
        kernel = np.ones(9) / 9
        values = np.pad(group[name], ((4, 4), (0, 0)), mode="edge")
        group[name] = np.stack([np.convolve(v, kernel, "valid") for v in values.T], 1).astype("f4")


def _first_unset(episodes):
    episodes[5]["is_first"][0] = False


def _last_in_the_middle(episodes):
    episodes[5]["is_last"][17] = True


def _terminal_in_the_middle(episodes):
    episodes[0]["is_terminal"][8] = True


def _time_backwards(episodes):
    episodes[6]["observation"]["timestamp"][12] -= 0.1


def _time_gap(episodes):
    episodes[6]["observation"]["timestamp"][21:] += 0.4


def _time_rate(episodes):
    episodes[1]["observation"]["timestamp"] *= 2


def _nan_action(episodes):
    episodes[7]["action"][9, 2] = np.nan


def _infinite_state(episodes):
    episodes[7]["observation"]["state"][30:33, 4] = np.inf


def _action_out_of_range(episodes):
    episodes[2]["action"][11:13, 0] += np.float32(4.0)


def _state_out_of_range(episodes):
    episodes[2]["observation"]["state"][11, 3] = -5.0


def _jump(episodes):
    episodes[8]["action"][20, 1] += 1.5


def _degrees_in_one_episode(episodes):
    for group, name in ((episodes[3], "action"), (episodes[3]["observation"], "state")):
        group[name][:, :6] = np.rad2deg(group[name][:, :6])


def _degrees_of_the_action(episodes):
    # Movements so small that no value is large enough to be degrees by itself.
    for group, name in ((episodes[3], "action"), (episodes[3]["observation"], "state")):
        group[name][:, :6] *= np.float32(0.1)
    episodes[3]["action"][:, :6] = np.rad2deg(episodes[3]["action"][:, :6])


def _stuck_sensor(episodes):
    state = episodes[4]["observation"]["state"]
    state[10:, 2] = state[10, 2]


def _no_motion(episodes):
    for group, name in ((episodes[4], "action"), (episodes[4]["observation"], "state")):
        group[name][:] = group[name][:1]
    noise = np.random.default_rng(0).normal(0, 1e-4, (len(episodes[4]["action"]), 6))
    episodes[4]["observation"]["state"][:, :6] += noise.astype(np.float32)


def _gripper_stuck(episodes):
    episodes[5]["observation"]["state"][:, 6] = 0.5


def _gripper_inverted(episodes):
    episodes[5]["action"][:, 6] = 1 - episodes[5]["action"][:, 6]


def _gripper_from_minus_one(episodes):
    episodes[5]["action"][:, 6] = 2 * episodes[5]["action"][:, 6] - 1


def _shifted_action(episodes):
    action = episodes[6]["action"]
    episodes[6]["action"] = np.concatenate([action[:1].repeat(3, 0), action[:-3]])


def _copied_state(episodes):
    episodes[6]["action"] = episodes[6]["observation"]["state"].copy()


def _first_action_leaps(episodes):
    episodes[1]["action"][0, 3] += 1.2


def _frozen_camera(episodes):
    episodes[3]["observation"]["image"][14:20] = episodes[3]["observation"]["image"][13]


def _dropped_frame(episodes):
    episodes[3]["observation"]["image"][25] = episodes[3]["observation"]["image"][24]


def _truncated_picture(episodes):
    frames = episodes[2]["observation"]["image"]
    frames[15] = frames[15][: len(frames[15]) // 2]


def _black_picture(episodes):
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    episodes[2]["observation"]["image"][15] = encode_image(black, "jpeg")


def _covered_camera(episodes):
    rng = np.random.default_rng(0)
    frames = episodes[2]["observation"]["image"]
    for t in range(len(frames)):
        frames[t] = encode_image(rng.integers(0, 3, (HEIGHT, WIDTH, 3), np.uint8), "jpeg")


def _other_size(episodes):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    episodes[9]["observation"]["image"][6] = encode_image(pixels, "jpeg")


def _no_language(episodes):
    episodes[0]["language_instruction"][:] = " "


def _changing_language(episodes):
    texts = episodes[0]["language_instruction"].tolist()
    episodes[0]["language_instruction"] = np.array(texts[:18] + ["wave"] * (len(texts) - 18))


def _duplicate(episodes):
    episodes[8] = episodes[2]


STATE = "observation/state"
# name of the defect -> (how it is planted, kind, episode, step, field, dimension)
DEFECTS = {
    "one step": (_one_step, "one_step", 3, 0, "", ""),
    "far too short": (_far_too_short, "length_outlier", 4, 4, "", ""),
    "far too long": (_far_too_long, "length_outlier", 2, 299, "", ""),
    "is_first unset": (_first_unset, "flag_missing", 5, 0, "is_first", ""),
    "is_last twice": (_last_in_the_middle, "flag_misplaced", 5, 17, "is_last", ""),
    "is_terminal": (_terminal_in_the_middle, "flag_misplaced", 0, 8, "is_terminal", ""),
    "time backwards": (_time_backwards, "time_backwards", 6, 12, "observation/timestamp", ""),
    "time gap": (_time_gap, "time_gap", 6, 21, "observation/timestamp", ""),
    "time rate": (_time_rate, "time_rate", 1, 0, "observation/timestamp", ""),
    "NaN": (_nan_action, "not_finite", 7, 9, "action", "joint_2"),
    "infinity": (_infinite_state, "not_finite", 7, 30, STATE, "joint_4"),
    "action limits": (_action_out_of_range, "action_range", 2, 11, "action", "joint_0"),
    "state limits": (_state_out_of_range, "observation_range", 2, 11, STATE, "joint_3"),
    "jump": (_jump, "jump", 8, 20, "action", "joint_1"),
    "degrees": (_degrees_in_one_episode, "degrees", 3, None, "action", None),
    "degrees, action only": (_degrees_of_the_action, "degrees", 3, 0, "action", "joint_0"),
    "stuck sensor": (_stuck_sensor, "stuck_sensor", 4, 10, STATE, "joint_2"),
    "no motion": (_no_motion, "no_motion", 4, 0, "action", ""),
    "gripper stuck": (_gripper_stuck, "gripper_stuck", 5, 0, STATE, "gripper"),
    "gripper inverted": (_gripper_inverted, "gripper_inverted", 5, 0, "action", "gripper"),
    "gripper -1 .. 1": (_gripper_from_minus_one, "gripper_range", 5, None, "action", "gripper"),
    "shifted action": (_shifted_action, "misaligned", 6, 0, "action", ""),
    "copied state": (_copied_state, "misaligned", 6, 0, "action", ""),
    "first action": (_first_action_leaps, "first_action_jump", 1, 0, "action", "joint_3"),
    "frozen camera": (_frozen_camera, "duplicate_frames", 3, 14, "observation/image", ""),
    "dropped frame": (_dropped_frame, "duplicate_frames", 3, 25, "observation/image", ""),
    "truncated picture": (_truncated_picture, "undecodable", 2, 15, "observation/image", ""),
    "black picture": (_black_picture, "blank_frame", 2, 15, "observation/image", ""),
    "covered camera": (_covered_camera, "blank_camera", 2, 0, "observation/image", ""),
    "picture size": (_other_size, "image_size", 9, 6, "observation/image", ""),
    "no language": (_no_language, "language_missing", 0, 0, "language", ""),
    "new language": (_changing_language, "language_changes", 0, 18, "language_instruction", ""),
    "duplicate": (_duplicate, "duplicate_episode", 8, 0, "", ""),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_where_it_was_planted(name, tmp_path):
    plant, kind, episode, step, field, dim = DEFECTS[name]
    episodes = arm_episodes()
    plant(episodes)
    found = findings_of(write_raw_episodes(tmp_path, episodes))
    assert {(f.kind, f.episode) for f in found} == {(kind, episode)}, found
    first = found[0]
    assert step is None or first.step == step
    assert first.file == f"arm-train.tfrecord-{episode // 5:05d}-of-00002"
    assert first.field == field or name == "degrees"
    assert dim is None or first.dim == dim


def test_a_damaged_record_costs_its_episode_a_damaged_file_its_rest(tmp_path):
    episodes = arm_episodes()
    del episodes[1]["observation"]["image"]
    episodes[1]["observation"]["image"] = np.array([], object)
    folder = write_raw_episodes(tmp_path, episodes)
    second = folder / "arm-train.tfrecord-00001-of-00002"
    content = bytearray(second.read_bytes())
    content[-20] ^= 1
    second.write_bytes(content)
    found = [f for f in findings_of(folder) if f.kind == "unreadable"]
    assert [(f.episode, f.file) for f in found] == [
        (1, "arm-train.tfrecord-00000-of-00002"),
        (9, second.name),
    ]
    assert "observation/image" in found[0].message
    assert "CRC32C" in found[1].message


def test_a_truncated_file_loses_its_last_episodes_only(tmp_path):
    folder = write_raw_episodes(tmp_path, arm_episodes(6), shards=1)
    (shard,) = folder.glob("*.tfrecord*")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size * 3 // 4])
    found = findings_of(folder)
    assert {f.kind for f in found} == {"unreadable"}
    assert [f.episode for f in found] == list(range(found[0].episode, 6))
    assert 2 < found[0].episode < 6


def test_the_findings_do_not_depend_on_the_number_of_workers(tmp_path):
    episodes = arm_episodes()
    _jump(episodes)
    _black_picture(episodes)
    folder = write_raw_episodes(tmp_path, episodes)
    assert findings_of(folder, 2) == findings_of(folder, 1) != []

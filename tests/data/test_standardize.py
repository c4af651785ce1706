"""Public datasets: cards, canonical episodes and what a wrong file says."""

import copy
import json

import numpy as np
import pytest

from arp_jax.data.cards import Card, card_names, find_card, load_card
from arp_jax.data.open_x import CAMERAS, TRANSFORMS, instructions
from arp_jax.data.rlds import open_dataset
from arp_jax.data.source import open_source
from arp_jax.data.standardize import raw_fields, standardize, stored_size
from arp_jax.data.synthetic import synthetic_raw_episode, write_raw_dataset
from arp_jax.data.synthetic_features import fields_of_types
from tests.data.open_x_actions import HAND

STEPS = 3
NAMES = sorted(TRANSFORMS)
TFDS_NAMES = {
    "stanford_hydra_dataset_converted_externally_to_rlds": "stanford_hydra",
    "austin_buds_dataset_converted_externally_to_rlds": "austin_buds",
    "nyu_franka_play_dataset_converted_externally_to_rlds": "nyu_franka_play",
    "language_table_sim": "language_table",
    "fmb_dataset": "fmb",
    "bridge_orig": "bridge_dataset",
}
# One field that the canonical action of each set cannot do without.
ACTION_FIELD = {
    "bridge": "action/open_gripper",
    "taco_play": "action/rel_actions_world",
    "toto": "action/open_gripper",
    "droid": "action_dict/gripper_position",
    **dict.fromkeys(
        (
            "fractal20220817_data",
            "kuka",
            "jaco_play",
            "roboturk",
            "nyu_door_opening_surprising_effectiveness",
            "viola",
            "berkeley_autolab_ur5",
        ),
        "action/gripper_closedness_action",
    ),
    "berkeley_cable_routing": "action/rotation_delta",
}


def raw_episode(card: Card) -> dict:
    """Three steps made from the card's raw feature specification, pictures encoded."""
    return synthetic_raw_episode(card, STEPS, seed=5, decode_images=False)


def put(raw: dict, name: str, value) -> None:
    """Sets a field by its name, in the stored type."""
    group, _, key = name.partition("/")
    place, key = (raw[group], key) if key else (raw, group)
    place[key] = np.asarray(value, place[key].dtype)


def without(raw: dict, name: str) -> dict:
    """The episode without one field."""
    raw = copy.deepcopy(raw)
    group, _, key = name.partition("/")
    raw[group].pop(key) if key else raw.pop(group)
    return raw


@pytest.mark.parametrize("name", NAMES)
def test_the_action_is_what_the_documents_define(name):
    card = load_card(name)
    raw, (fields, expected) = raw_episode(card), HAND[name]
    for field, value in fields.items():
        put(raw, field, value)
    action = standardize(raw, card)["action"]
    assert action.dtype == np.float32
    np.testing.assert_allclose(action, np.array(expected, np.float32), atol=1e-6)


def test_every_dataset_has_an_expected_action():
    assert sorted(HAND) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_episodes_have_the_names_and_sizes_of_the_card(name):
    card = load_card(name)
    raw = raw_episode(card)
    before = copy.deepcopy({key: raw[key] for key in ("is_first", "reward")})
    episode = standardize(raw, card)
    specs, observation = card.specs, episode["observation"]
    assert sorted(observation) == sorted(specs.observation.names)
    for feature in specs.observation.features:
        values = observation[feature.name]
        assert (values.shape, values.dtype) == ((STEPS, feature.size), np.float32), feature.name
    for camera, key in CAMERAS[name].items():
        assert observation[camera] is raw["observation"][key]  # encoded bytes pass untouched
    assert len(episode["language"]) == (3 if name == "droid" else 1)
    assert isinstance(episode["language"][0], str)
    np.testing.assert_array_equal(episode["is_first"], before["is_first"])
    np.testing.assert_array_equal(episode["reward"], before["reward"])
    gripper = specs.action.gripper
    assert gripper == (None if name == "language_table" else "open=1")
    if gripper:
        assert specs.action.dims == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
        assert 0 <= episode["action"][:, 6].min() <= episode["action"][:, 6].max() <= 1


@pytest.mark.parametrize("name", ["taco_play", "austin_buds"])
def test_decoded_pictures_pass_as_pixels(name):
    card = load_card(name)
    episode = standardize(synthetic_raw_episode(card, STEPS, seed=5), card)
    for camera in card.specs.observation.cameras:
        values = episode["observation"][camera.name]
        assert values.shape == (STEPS, camera.height, camera.width, 3)
        assert values.dtype == np.uint8


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_field_is_named_with_its_dataset(name):
    card = load_card(name)
    raw = raw_episode(card)
    field = ACTION_FIELD.get(name, "action")
    camera = f"observation/{CAMERAS[name]['image']}"
    for missing in (field, camera):
        with pytest.raises(ValueError, match=f"^{name}: the episode has no field '{missing}'$"):
            standardize(without(raw, missing), card)


def test_a_camera_that_nobody_wants_may_be_missing():
    card = load_card("viola")
    raw = without(raw_episode(card), "observation/agentview_rgb")
    episode = standardize(raw, card, cameras=["wrist_image"])
    assert "image" not in episode["observation"]


def test_another_size_or_type_is_named_with_its_dataset():
    card = load_card("austin_buds")
    raw = raw_episode(card)
    raw["action"] = raw["action"][:, :5]
    with pytest.raises(ValueError, match=r"^austin_buds: index 6 .*another release"):
        standardize(raw, card)
    raw = raw_episode(card)
    raw["observation"]["state"] = raw["observation"]["state"][:, :8]
    with pytest.raises(
        ValueError, match="austin_buds: state has 8 numbers a step, the card says 24"
    ):
        standardize(raw, card)
    raw = raw_episode(card)
    raw["action"] = np.array(["left"] * STEPS)
    with pytest.raises(ValueError, match="austin_buds: field 'action' does not hold numbers"):
        standardize(raw, card)


def test_a_card_without_function_says_so():
    card = load_card("push_t")
    with pytest.raises(ValueError, match="'push_t': no function"):
        standardize({}, card)


def test_instructions_are_distinct_text_in_order():
    columns = [np.array([b"pick", b"pick", b" "], object), np.array(["", "lift"]), b"\xc3\xb6ffne"]
    assert instructions(columns) == ("pick", "lift", "öffne")
    assert instructions([]) == ()


def test_alternative_instructions_follow_the_card():
    card = load_card("droid")
    raw = raw_episode(card)
    texts = {
        "language_instruction": "a",
        "language_instruction_2": "",
        "language_instruction_3": "b",
    }
    raw.update({key: np.array([text] * STEPS) for key, text in texts.items()})
    assert standardize(raw, card)["language"] == ("a", "b")
    older = without(without(raw, "language_instruction_2"), "language_instruction_3")
    assert standardize(older, card)["language"] == ("a",)


def test_the_sentence_of_language_table_is_decoded():
    card = load_card("language_table")
    raw = raw_episode(card)
    letters = np.zeros(512, np.int32)
    letters[:14] = [ord(c) for c in "push the block"]
    put(raw, "observation/instruction", [letters] * STEPS)
    assert standardize(raw, card)["language"] == ("push the block",)


def test_the_instruction_of_fmb_is_the_episodes_own():
    card = load_card("fmb")
    raw = raw_episode(card)
    raw["language_instruction"] = np.array([b"Move up."] * STEPS, object)
    raw["episode_metadata"]["episode_language_instruction"] = b"Insert the red object."
    vector = raw["episode_metadata"]["episode_language_embedding"]
    episode = standardize(raw, card)
    assert episode["language"] == ("Insert the red object.",)
    np.testing.assert_array_equal(episode["observation"]["language_embedding"][2], vector)


def test_states_are_put_together_in_the_order_of_the_card():
    card = load_card("stanford_hydra")
    raw = raw_episode(card)
    put(raw, "observation/state", [np.arange(27)] * STEPS)
    observation = standardize(raw, card)["observation"]
    np.testing.assert_array_equal(observation["state"][0], [*range(17), 24, 25, 26])
    np.testing.assert_array_equal(observation["velocity"][0], np.arange(17, 24))
    card = load_card("droid")
    raw = raw_episode(card)
    put(raw, "observation/cartesian_position", [[1, 2, 3, 4, 5, 6]] * STEPS)
    put(raw, "observation/gripper_position", [[7]] * STEPS)
    put(raw, "observation/joint_position", [[8, 9, 10, 11, 12, 13, 14]] * STEPS)
    state = standardize(raw, card)["observation"]["state"][0]
    np.testing.assert_array_equal(state, np.arange(1, 15))
    names = card.specs.observation.feature("state").dims
    assert (names[6], names[7]) == ("gripper_closed", "joint_0")


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete(name):
    card = load_card(name)
    assert card.name == name
    assert card.license
    assert card.citation
    assert card.homepage.startswith("https://")
    assert len(card.notes) >= 2
    fields = {field.name: field for field in fields_of_types(card.fields)}
    assert len(fields) == len(card.fields)
    specs = card.specs
    for camera in specs.observation.cameras:
        field = fields[f"observation/{CAMERAS[name][camera.name]}"]
        assert (field.kind, field.shape) == ("image", (camera.height, camera.width, 3))
    assert sorted(CAMERAS[name]) == sorted(c.name for c in specs.observation.cameras)
    vectors = [(feature.unit, feature.dims) for feature in specs.observation.features]
    for unit, dims in (*vectors, (specs.action.unit, specs.action.dims)):
        assert len(unit.split(", ")) in (1, len(dims))
        assert len(set(dims)) == len(dims)
    assert specs.action.rate_hz in (3, 5, 10, 15, 20, 30)
    stored = json.loads(json.dumps(card.to_json()))
    assert stored["action"]["dims"] == list(specs.action.dims)


def test_names_and_aliases_are_unique_and_found():
    cards = [load_card(name) for name in card_names()]
    names = [n for card in cards for n in (card.name, *card.aliases)]
    assert len(set(names)) == len(names)
    assert set(NAMES) <= set(card_names())
    for alias, name in TFDS_NAMES.items():
        card = find_card(alias)
        assert card is not None
        assert card.name == name


def test_only_wanted_pictures_and_no_depth_are_read():
    card = load_card("fmb")
    fields = raw_fields(card, ["wrist_image"])
    images = [name for name in fields if "image" in name]
    assert images == ["observation/image_wrist_1"]
    assert "episode_metadata/episode_task" in fields
    assert "success" in raw_fields(load_card("kuka"), [])
    ur5 = raw_fields(load_card("berkeley_autolab_ur5"), ["image"])
    assert [name for name in ur5 if "image" in name] == ["observation/image"]


# Large frames make the others slow; these have zlib, float64, bytes for text, and two pictures.
QUICK = ("kuka", "droid", "language_table", "austin_buds")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES]
)
def test_files_of_the_published_layout_are_read_as_canonical_episodes(name, tmp_path):
    card = load_card(name)
    source = open_source(write_raw_dataset(tmp_path, card, episodes=2, seed=3))
    assert source.card == card
    episodes = list(source.episodes("train", decode_images=False))
    assert len(episodes) == 2
    raw = synthetic_raw_episode(card, len(episodes[1]["action"]), seed=4, decode_images=False)
    expected = standardize(raw, card)
    np.testing.assert_array_equal(episodes[1]["action"], expected["action"])
    for feature in card.specs.observation.features:
        np.testing.assert_array_equal(
            episodes[1]["observation"][feature.name], expected["observation"][feature.name]
        )
    assert episodes[1]["language"] == expected["language"]


@pytest.fixture(scope="module")
def bridge_clips(shared_dir):
    folder = shared_dir / "data" / "bridge_dataset"
    expected = json.loads((shared_dir / "data" / "bridge_dataset_expected.json").read_text())
    return open_dataset(folder / "1.0.0"), expected


def test_the_real_bridge_clips_are_canonical(bridge_clips):
    dataset, expected = bridge_clips
    card = find_card(dataset.name)
    assert card is not None
    assert card.name == "bridge_dataset"
    fields = raw_fields(card, ["image"])
    assert set(fields) <= set(dataset.features)
    low, high = np.array(card.specs.action.low), np.array(card.specs.action.high)
    count = 0
    for number, raw in enumerate(dataset.episodes("train", fields, decode_images=False)):
        episode = standardize(raw, card, cameras=["image"])
        action, observation = episode["action"], episode["observation"]
        assert action.shape == (expected["steps"][number], 7)
        np.testing.assert_allclose(action.sum(0), expected["action_sum"][number], atol=2e-6)
        np.testing.assert_allclose(
            observation["state"][0], expected["state_first"][number], atol=1e-6
        )
        assert episode["language"] == (expected["instructions"][number],)
        assert episode["metadata"]["episode_id"] == expected["episode_id"][number]
        np.testing.assert_allclose(
            np.linalg.norm(observation["language_embedding"][0]), 1, atol=1e-5
        )
        assert observation["image"][0][:2] == b"\xff\xd8"  # JPEG as stored
        # Metres and radians: nothing moves 5 cm or turns 0.26 rad a step.
        assert (action >= low - 0.01).all()
        assert (action <= high + 0.01).all()
        count += 1
    assert count == expected["episodes"]


def test_a_smaller_copy_says_its_own_size(bridge_clips):
    dataset, _ = bridge_clips
    card = load_card("bridge_dataset")
    spec = stored_size(card, dataset.features)
    assert [(c.height, c.width) for c in spec.cameras] == [(64, 64)] * 4
    assert spec.features == card.specs.observation.features
    assert stored_size(card, {}) == card.specs.observation

"""Canonical episodes: from folders that say what they mean, and from cards."""

import json

import numpy as np
import pytest

from arp_jax.data.cards import CARDS, Card, card_names, find_card, load_card
from arp_jax.data.rlds import SPECS_FILE, DatasetSpecs
from arp_jax.data.source import open_source
from tests.data.rlds_folder import (
    ACTION_SPEC,
    OBSERVATION_SPEC,
    synthetic_episodes,
    write_folder,
)

TOY_CARD = Card(
    name="toy",
    aliases=("toy_converted",),
    description="Toy.",
    homepage="",
    license="CC0",
    citation="",
    notes=("None.",),
    fields={},
    specs=DatasetSpecs(OBSERVATION_SPEC, ACTION_SPEC),
)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "toy", synthetic_episodes([3, 5]))


@pytest.fixture
def card_file(tmp_path):
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(TOY_CARD.to_json()))
    return path


def test_folder_with_specs_is_canonical_already(folder):
    source = open_source(folder)
    assert source.card is None
    assert source.specs.action == ACTION_SPEC
    episodes = list(source.episodes("train"))
    for episode, expected in zip(episodes, synthetic_episodes([3, 5]), strict=True):
        assert set(episode) == {"observation", "action", "language", "metadata"}
        np.testing.assert_array_equal(episode["action"], expected["action"])
        np.testing.assert_array_equal(episode["observation"]["image"], expected["image"])
        assert episode["language"] == ()
        assert episode["metadata"] == {}


def test_only_wanted_observations_are_read_and_pictures_stay_encoded(folder):
    (episode,) = open_source(folder).episodes("train[1:]", ["image"], decode_images=False)
    assert set(episode["observation"]) == {"image"}
    images = episode["observation"]["image"]
    assert images.shape == (5,)
    assert all(data.startswith(b"\x89PNG") for data in images)


def test_unknown_observation_is_named(folder):
    with pytest.raises(ValueError, match=r"no observation 'wrist'; there are \['agent_pos', 'ima"):
        open_source(folder).episodes("train", ["wrist"])


def test_foreign_folder_needs_a_card(folder, card_file):
    (folder / SPECS_FILE).unlink()
    with pytest.raises(ValueError, match=r"no specs.json in the folder and no card.*--card FILE"):
        open_source(folder)
    source = open_source(folder, card_file)
    assert source.specs == TOY_CARD.specs
    assert len(list(source.episodes("train"))) == 2


def test_card_round_trip_and_errors(card_file, tmp_path):
    assert load_card(card_file) == TOY_CARD
    content = TOY_CARD.to_json()
    card_file.write_text(json.dumps({**content, "licence": "CC0"}))
    with pytest.raises(ValueError, match=r"toy\.json: unknown key 'licence'"):
        load_card(card_file)
    del content["action"]
    card_file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"toy\.json: lacks key 'action'"):
        load_card(card_file)
    with pytest.raises(ValueError, match=r"card 'no_such_set': no file .*no_such_set\.json"):
        load_card("no_such_set")


def test_repeated_dimensions_are_written_short(card_file):
    content = TOY_CARD.to_json()
    feature = {"name": "language_embedding", "dims": ["e[512]"], "unit": "1", "frame": "text"}
    content["observation"]["features"].append(feature)
    card_file.write_text(json.dumps(content))
    card = load_card(card_file)
    dims = card.specs.observation.feature("language_embedding").dims
    assert (dims[0], dims[-1], len(dims)) == ("e0", "e511", 512)
    assert card.to_json()["observation"]["features"][-1]["dims"] == ["e[512]"]


@pytest.mark.parametrize("name", card_names() or ["none"])
def test_every_card_is_found_by_its_names(name):
    assert CARDS.is_dir()
    card = load_card(name)
    assert card.name == name
    for alias in (name, *card.aliases):
        assert find_card(alias) == card
    assert find_card(f"{name}_of_somebody_else") is None
    for text in (card.description, card.license, card.citation):
        assert text.strip(), f"{name}: description, license and citation must say something"

"""Records with lists within steps, values of varying size and other rarely used features."""

import copy

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from arp_jax.data.rlds_features import fields_from_json
from arp_jax.data.tf_example import parse_episode
from arp_jax.data.tf_example_write import serialize_episode
from tests.data.list_fields import FEATURES, STEPS, episode

OPTIONAL = "maybe"


def stored_fields():
    fields = fields_from_json(FEATURES)
    assert OPTIONAL in fields
    return [field for field in fields.values() if field.name != OPTIONAL]


def assert_values(found, expected, where):
    """Nested lists of arrays, whatever holds them."""
    if isinstance(expected, dict):
        assert sorted(found) == sorted(expected)
        for key in expected:
            assert_values(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for left, right in zip(found, expected, strict=True):
            assert_values(left, right, where)
    else:
        np.testing.assert_array_equal(found, expected, err_msg=where)
        if np.size(expected) and np.asarray(expected).dtype.kind not in "UO":
            assert np.asarray(found).dtype == np.asarray(expected).dtype, where


@pytest.mark.parametrize("decode_images", [True, False])
def test_lists_and_values_of_varying_size(decode_images):
    fields = fields_from_json(FEATURES)
    assert "unsupported" not in {field.kind for field in fields.values()}
    record = serialize_episode(episode(encoded=True), stored_fields())
    found = parse_episode(record, fields.values(), decode_images)
    assert OPTIONAL not in found  # the record lacks it
    assert_values(found, episode(encoded=not decode_images), "episode")
    # Equal sizes are stacked, others are arrays of arrays; either way [t] is step t.
    assert found["triple"].shape == (STEPS, 3)
    assert found["counts"].shape == (STEPS,)
    assert found["counts"].dtype == object
    assert found["said"]["de"].shape == (STEPS,)
    assert found["words"].shape == (STEPS, 2)
    if decode_images:
        assert found["clip"][0].shape == (2, 4, 6, 3)
        assert found["trailer"].shape == (2, 4, 6, 3)


def test_an_optional_value_is_read_where_it_is():
    fields = fields_from_json(FEATURES).values()
    values = {**episode(encoded=True), OPTIONAL: np.int64(4)}
    assert parse_episode(serialize_episode(values, fields), fields)[OPTIONAL] == 4


def spoiled(change):
    """The record after `change(features)`, a map of key -> tf.train.Feature."""
    example = tf_example_pb2.Example.FromString(
        serialize_episode(episode(encoded=True), stored_fields())
    )
    change(example.features.feature)
    return example.SerializeToString()


def shorten_rows(stored):
    del stored["steps/counts/ragged_row_lengths_0"].int64_list.value[-1]


def forget_rows(stored):
    del stored["steps/grid/ragged_row_lengths_1"]


def numbers_for_strings(stored):
    stored["steps/label"].float_list.value.append(1.5)


def integers_for_numbers(stored):
    stored["steps/box"].int64_list.value.append(1)


def cut_zlib(stored):
    strings = stored["steps/flags"].bytes_list.value
    strings[1] = strings[1][:-4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shorten_rows, "'counts': 3 values do not fill lists of 1 in total"),
        (forget_rows, "'grid': the record has no key 'steps/grid/ragged_row_lengths_1'"),
        (numbers_for_strings, "'label': stored as float, features.json says int64"),
        (integers_for_numbers, "'box': stored as int64, features.json says float32"),
        (cut_zlib, "'flags': zlib data is damaged"),
    ],
)
def test_damage_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        parse_episode(spoiled(change), fields_from_json(FEATURES).values())


def test_sizes_that_nobody_stored_are_unsupported_only_if_asked_for():
    features = copy.deepcopy(FEATURES)
    steps = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    steps["featuresDict"]["features"]["cloud"]["tensor"]["encoding"] = "none"
    steps["featuresDict"]["features"]["voice"] = {"audio": {}, "pythonClassName": "a.b.Audio"}
    fields = fields_from_json(features)
    assert fields["cloud"].kind == fields["voice"].kind == "unsupported"
    record = serialize_episode(episode(encoded=True), stored_fields())
    with pytest.raises(ValueError, match=r"'cloud': .*Tensor.*stored without their sizes"):
        parse_episode(record, [fields["cloud"]])
    with pytest.raises(ValueError, match=r"'voice': TFDS feature Audio .*not supported"):
        parse_episode(record, [fields["voice"]])

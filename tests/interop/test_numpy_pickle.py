"""Pickles of arrays are read as numpy wrote them, and nothing in them runs."""

import pickle

import numpy as np
import pytest

from arp_jax.interop.inert_pickle import Record
from arp_jax.interop.numpy_pickle import read_pickle


class Attack:
    """Unpickled by Python, it would write a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def content():
    return {
        "matrix": np.arange(12.0).reshape(3, 4),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">f4"),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 7), np.float32),
        "number": np.float64(1.5),
        "steps": [{"actions": np.full(7, i), "policy_type": "VR"} for i in range(2)],
        "nothing": None,
    }


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for left, right in zip(found, expected, strict=True):
            assert_same(left, right)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_containers_and_arrays(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content(), protocol))
    assert_same(read_pickle(path), content())


def test_nothing_runs(tmp_path):
    path, target = tmp_path / "a.pkl", tmp_path / "written"
    path.write_bytes(pickle.dumps([Attack(target), np.ones(2)]))
    found = read_pickle(path)
    assert isinstance(found[0], Record)
    np.testing.assert_array_equal(found[1], [1, 1])
    assert not target.exists()


def test_broken_files(tmp_path):
    path = tmp_path / "a.pkl"
    with pytest.raises(ValueError, match=r"a\.pkl: cannot be read \(No such file"):
        read_pickle(path)
    whole = pickle.dumps(content())
    for broken in (whole[:100], whole[:-1], b"", b"text", b"\x80\x05" + whole[40:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"a\.pkl: no whole pickle of numbers"):
            read_pickle(path)
    path.write_bytes(pickle.dumps(np.array([{}, 1], object)))
    with pytest.raises(ValueError, match=r"a\.pkl: no whole pickle of numbers"):
        read_pickle(path)

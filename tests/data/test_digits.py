"""The digits as pen episodes: lists and pictures are inverse, the written dataset holds them."""

import numpy as np
import pytest

from arp_jax.data import digits
from arp_jax.data.digits import MOST_PIXELS, binary_digits, paint, pixel_list, write_digits
from arp_jax.data.rlds import open_dataset


def test_lists_and_images_are_inverse():
    images, classes = binary_digits()
    assert images.shape == (1797, 8, 8)
    assert np.bincount(classes).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images.sum((1, 2)).max() == MOST_PIXELS  # no image is cut short
    lists = np.stack([pixel_list(image, MOST_PIXELS) for image in images])
    np.testing.assert_array_equal(paint(lists), images)


def test_a_list_is_in_raster_order_and_rests_on_its_last_pixel():
    image = np.zeros((8, 8), bool)
    image[[5, 0, 5], [1, 7, 6]] = True
    assert pixel_list(image, 5).tolist() == [[0, 7], [5, 1], [5, 6], [5, 6], [5, 6]]
    with pytest.raises(ValueError, match=r"3 lit pixels; 1 .. 2 can be listed"):
        pixel_list(image, 2)
    with pytest.raises(ValueError, match="0 lit pixels"):
        pixel_list(np.zeros((8, 8), bool), 2)


def test_the_written_episodes_are_the_images(tmp_path, monkeypatch):
    images, classes = (values[:12] for values in binary_digits())
    monkeypatch.setattr(digits, "binary_digits", lambda: (images, classes))
    folder = write_digits(tmp_path, 30)
    assert folder == tmp_path / "digits/1.0.0"
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
    dataset = open_dataset(folder)
    assert dataset.specs.action == digits.ACTION_SPEC
    episodes = list(dataset.episodes("train"))
    assert len(episodes) == 12
    for episode, image, label in zip(episodes, images, classes, strict=True):
        assert episode["action"].shape == (30, 2)
        np.testing.assert_array_equal(paint(episode["action"]), image)
        assert (episode["observation"]["digit"] == label).all()
        assert episode["is_last"].tolist() == [False] * 29 + [True]
    # A second call finds it; another length is refused, and so is one that cuts images short.
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_digits(tmp_path, 30)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    with pytest.raises(ValueError, match="was built with length=30, asked for 28"):
        write_digits(tmp_path, 28)
    with pytest.raises(ValueError, match=r"config\.horizon 20 is too short"):
        write_digits(tmp_path, 20)

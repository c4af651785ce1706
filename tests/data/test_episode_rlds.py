"""Episodes of any spec as RLDS: read back by our reader and by TFDS, images exact or close."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from arp_jax.data.episode_rlds import episode_example, episode_features
from arp_jax.data.images import encode_image
from arp_jax.data.rlds import DatasetSpecs, open_dataset
from arp_jax.data.rlds_build import EpisodeBuilder, prepare
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec

OBSERVATION = ObservationSpec(
    features=(FeatureSpec("state", ("a", "b", "c"), "rad", "base"),),
    cameras=(CameraSpec("top", 24, 32), CameraSpec("wrist", 16, 16)),
)
ACTION = ActionSpec(("a", "b"), "rad", "base", (True, True), (-1.0, -1.0), (1.0, 1.0), 50.0)
METADATA = {
    "success": tfds.features.Scalar(np.bool_),
    "cameras": tfds.features.Text(),
    "initial": tfds.features.Tensor(shape=(2,), dtype=np.float32),
}


def episode(number: int) -> dict:
    """Numbers of one episode; pictures are smooth, as JPEG expects."""
    rng = np.random.default_rng(number)
    length = 5 + number
    ramp = np.linspace(0, 200, 32)[None, None, :, None] + np.arange(length)[:, None, None, None]
    return {
        "state": rng.normal(size=(length, 3)).astype(np.float32),
        "top": np.broadcast_to(ramp, (length, 24, 32, 3)).astype(np.uint8),
        "wrist": rng.integers(0, 255, (length, 16, 16, 3)).astype(np.uint8),
        "action": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
        "reward": rng.uniform(size=length).astype(np.float32),
    }


def build(folder: Path, image_format: str) -> Path:
    features = episode_features(
        OBSERVATION,
        ACTION,
        metadata=METADATA,
        reward="stages",
        language=True,
        image_format=image_format,
    )

    def examples(_):
        for number in range(3):
            values = episode(number)
            observation = {name: values[name] for name in OBSERVATION.names}
            # Pictures that come encoded are stored as they are.
            encoded = [encode_image(pixels, image_format) for pixels in values["wrist"]]
            yield (
                number,
                episode_example(
                    observation | {"wrist": encoded},
                    values["action"],
                    values["reward"],
                    success=number != 1,
                    metadata={
                        "success": number != 1,
                        "cameras": json.dumps({"top": {"height": 24}}),
                        "initial": np.full(2, number, np.float32),
                    },
                    instruction=f"do it {number} times",
                    image_format=image_format,
                ),
            )

    builder = EpisodeBuilder(
        name="wiggle",
        specs=DatasetSpecs(OBSERVATION, ACTION),
        features=features,
        arguments={"seed": 3},
        episodes=examples,
        description="Wiggles.",
        data_dir=folder,
    )
    assert prepare(builder, builder.arguments)
    return Path(builder.data_dir)


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_what_was_written_is_read_back(tmp_path, image_format):
    folder = build(tmp_path, image_format)
    assert folder == tmp_path / "wiggle" / "1.0.0"
    dataset = open_dataset(folder)
    assert dataset.specs == DatasetSpecs(OBSERVATION, ACTION)
    found = list(dataset.episodes("train"))
    assert len(found) == 3
    for number, read in enumerate(found):
        values = episode(number)
        np.testing.assert_array_equal(read["observation"]["state"], values["state"])
        np.testing.assert_array_equal(read["action"], values["action"])
        np.testing.assert_array_equal(read["reward"], values["reward"])
        images = {name: read["observation"][name] for name in ("top", "wrist")}
        if image_format == "png":
            for name, pixels in images.items():
                np.testing.assert_array_equal(pixels, values[name])
        else:
            error = images["top"].astype(int) - values["top"]
            assert 0 < np.abs(error).max() <= 6
            assert images["wrist"].shape == values["wrist"].shape
        assert set(read["language_instruction"]) == {f"do it {number} times"}
        assert read["is_terminal"].tolist() == [False] * (4 + number) + [number != 1]
        assert read["discount"][-1] == (number == 1)
        metadata = read["episode_metadata"]
        assert bool(metadata["success"]) == (number != 1)
        assert json.loads(str(metadata["cameras"])) == {"top": {"height": 24}}
        np.testing.assert_array_equal(metadata["initial"], [number, number])


def test_tfds_reads_the_folder(tmp_path):
    builder = tfds.builder_from_directory(build(tmp_path, "png"))
    source = builder.as_data_source(split="train")
    steps = list(source[2]["steps"])
    values = episode(2)
    assert len(steps) == 7
    np.testing.assert_array_equal(steps[3]["observation"]["top"], values["top"][3])
    assert steps[3]["language_instruction"].decode() == "do it 2 times"


def test_an_unknown_image_format_is_refused():
    with pytest.raises(ValueError, match=r"image format 'gif' is unknown.*png"):
        encode_image(np.zeros((2, 2, 3), np.uint8), "gif")
    with pytest.raises(ValueError, match="'gif'"):
        episode_features(OBSERVATION, ACTION, metadata={}, reward="", image_format="gif")

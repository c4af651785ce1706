"""features.json and an episode with lists within steps and other rarely used kinds of field."""

import numpy as np

from arp_jax.data.images import encode_image

STEPS = 3
_CLASS = "tensorflow_datasets.core.features"


def _node(kind, class_name, **content):
    return {"pythonClassName": f"{_CLASS}.{class_name}", kind: content}


def _tensor(dtype, *shape, **content):
    dimensions = {"dimensions": [str(n) for n in shape]} if shape else {}
    return _node("tensor", "tensor_feature.Tensor", shape=dimensions, dtype=dtype, **content)


def _list(feature, length=-1):
    return _node("sequence", "sequence_feature.Sequence", feature=feature, length=str(length))


def _dict(**features):
    return _node("featuresDict", "features_dict.FeaturesDict", features=features)


FEATURES = _dict(
    steps=_node(
        "sequence",
        "dataset_feature.Dataset",
        feature=_dict(
            counts=_list(_tensor("int64")),
            triple=_list(_tensor("float32"), 3),
            objects=_list(_dict(id=_tensor("int32"), name=_node("text", "text_feature.Text"))),
            grid=_list(_list(_tensor("uint8"))),
            clouds=_list(_tensor("float32", -1, -1, encoding="zlib")),
            cloud=_tensor("float64", -1, 3, encoding="bytes"),
            flags=_tensor("bool", 2, encoding="zlib"),
            words=_tensor("string", 2),
            box=_node(
                "boundingBox", "bounding_boxes.BBoxFeature", dtype="float32", bboxFormat="REL_YXYX"
            ),
            label=_node("classLabel", "class_label_feature.ClassLabel", numClasses="4"),
            said=_node("translation", "translation_feature.Translation", languages=["de", "en"]),
            picture=_node(
                "image",
                "image_feature.Image",
                shape={"dimensions": ["-1", "-1", "3"]},
                dtype="uint8",
            ),
            clip=_node(
                "video",
                "video_feature.Video",
                shape={"dimensions": ["-1", "4", "6", "3"]},
                dtype="uint8",
                encodingFormat="png",
            ),
        ),
        length="-1",
    ),
    path=_tensor("float32", -1, 2),
    tree=_list(_list(_tensor("int32"))),
    trailer=_node(
        "video", "video_feature.Video", shape={"dimensions": ["2", "4", "6", "3"]}, dtype="uint8"
    ),
    maybe=_tensor("int64", optional=True),
)


def _pixels(height=4, width=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def episode(encoded):
    """The episode as lists of values; images as PNG where `encoded`, else as pixels."""

    def frame(*size):
        return encode_image(_pixels(*size), "png") if encoded else _pixels(*size)

    def numbers(dtype, *rows):
        return [np.array(row, dtype) for row in rows]

    return {
        "counts": numbers(np.int64, [7], [], [1, 2]),
        "triple": numbers(np.float32, [1, 2, 3], [4, 5, 6], [7, 8, 9]),
        "objects": {
            "id": numbers(np.int32, [5], [6, 7], []),
            "name": numbers("U5", ["Tasse"], ["cup", "rot"], []),
        },
        "grid": [numbers(np.uint8, [1], [2, 3]), [], numbers(np.uint8, [4, 5, 6])],
        "clouds": [
            [np.ones((2, 3), np.float32), np.zeros((1, 4), np.float32)],
            [np.full((5, 1), 2, np.float32)],
            [],
        ],
        "cloud": [np.ones((n, 3)) for n in (1, 4, 2)],
        "flags": numbers(np.bool_, [True, False], [False, False], [True, True]),
        "words": [np.array([b"a", bytes([255, 0, t])], object) for t in range(STEPS)],
        "box": numbers(np.float32, *[[0.1, 0.2, 0.3, 0.4]] * STEPS),
        "label": numbers(np.int64, 0, 3, 2),
        "said": {"de": ["ja", "nein", "Öl"], "en": ["yes", "no", "oil"]},
        "picture": [frame(2, 5, 1), frame(3, 5, 2), frame(2, 5, 3)],
        "clip": [[frame(), frame(4, 6, 1)], [frame()], [frame(), frame()]],
        "trailer": [frame(), frame(4, 6, 9)],
        "path": np.arange(6, dtype=np.float32).reshape(3, 2),
        "tree": numbers(np.int32, [1], [2, 3]),
    }

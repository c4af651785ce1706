"""A made-up card with every type of raw field, and the comparison of nested episodes."""

import numpy as np

from arp_jax.data.cards import Card
from arp_jax.data.rlds import DatasetSpecs
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC

FIELDS = {
    "observation/image": "image[24,32,3]:jpeg",
    "observation/gray": "image[24,32,1]",
    "observation/depth": "image[24,32,1]:png:uint16",
    "observation/distance": "image[24,32,1]:float32",
    "observation/depth_tensor": "float32[40,48]",
    "observation/clip_function_input/base_pose_tool_reached": "float32[7]:zlib",
    "observation/cloud": "float64[?,3]:bytes",
    "observation/points": "float32[?,?]:zlib",
    "observation/src_rotation": "float32[4]",
    "observation/natural_language_instruction": "string",
    "observation/natural_language_embedding": "float32[512]",
    "observation/instruction": "int32[512]",
    "action/world_vector": "float32[3]",
    "action/terminate_episode": "int32[3]",
    "action/open_gripper": "bool",
    "action/gripper_closedness_action": "float32[1]",
    "language_instruction": "text",
    "counter": "uint64",
    "is_first": "bool",
    "is_last": "bool",
    "is_terminal": "bool",
    "reward": "float32",
    "/aspects/success": "bool",
    "/preview": "image[24,32,3]:png",
    "episode_metadata/file_path": "text",
}


def raw_card(**fields: str) -> Card:
    """The card; `fields` replaces the raw fields."""
    specs = DatasetSpecs(OBSERVATION_SPEC, ACTION_SPEC)
    return Card("raw", (), "", "", "", "", (), fields or FIELDS, specs)


def assert_same_episode(left, right, where=""):
    """Nested dicts with the same keys, dtypes, shapes and values."""
    if isinstance(left, dict):
        assert sorted(left) == sorted(right), where
        for key in left:
            assert_same_episode(left[key], right[key], f"{where}/{key}")
        return
    left, right = np.asarray(left), np.asarray(right)
    assert (left.dtype, left.shape) == (right.dtype, right.shape), where
    np.testing.assert_array_equal(left, right, err_msg=where)

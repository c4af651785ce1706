"""A small ARP with every kind of head, for fast tests."""

import jax
import numpy as np

from arp_jax.models.chunk_schedule import ChunkSchedule
from arp_jax.models.chunk_transformer import ArpConfig, ChunkTransformer, LayerConfig
from arp_jax.models.tokens import TokenType

STATE, MODE, PIXEL, ACTION, GRIP = range(5)

CONDITIONED = LayerConfig(heads=2, mlp_ratio=2.0, condition_on="image", adaln=True, name="cross")
PLAIN = LayerConfig(heads=2, mlp_ratio=2.0, name="self")

CONFIG = ArpConfig(
    embed_dim=8,
    max_seq_len=16,
    max_chunk_size=6,
    tokens=(
        TokenType("state", is_control=True, dim=3, is_continuous=True, embedding="linear"),
        TokenType("mode", dict_sizes=(4,)),
        TokenType(
            "pixel",
            dim=2,
            is_continuous=True,
            embedding="position_2d",
            predictor="upsample_from_2d_attn",
            predictor_options={"attn_with": (8, 3, 3), "upscale_ratio": 2, "label_name": "map"},
        ),
        TokenType(
            "action",
            dim=3,
            is_continuous=True,
            embedding="linear",
            predictor="gmm",
            predictor_options={"num_latents": 1, "low_var_eval": False},
        ),
        TokenType(
            "grip",
            is_continuous=True,
            dict_sizes=(11,),
            bounds=(0.0, 1.0),
            predictor="gmm",
            predictor_options={"num_latents": 3},
        ),
    ),
    layers=(CONDITIONED, CONDITIONED, PLAIN),
    layer_norm_every_block=False,
)

MODEL = ChunkTransformer(CONFIG)


def random_params(seed: int = 0) -> dict:
    """Parameters with every leaf random, so that no part is an identity as at initialisation."""
    shapes = jax.eval_shape(MODEL.init_params, jax.random.key(0))
    leaves, structure = jax.tree.flatten(shapes)
    rng = np.random.default_rng(seed)
    filled = [0.3 * rng.standard_normal(x.shape, np.float32) for x in leaves]
    return jax.tree.unflatten(structure, filled)


def image_context(batch: int, seed: int = 0) -> dict:
    """A two-token observation."""
    rng = np.random.default_rng(seed)
    return {"image": rng.standard_normal((batch, 2, CONFIG.embed_dim), np.float32)}


def random_schedule(seed: int, blocked: bool = False) -> ChunkSchedule:
    """A state token, then chunks of random sizes and random types."""
    rng = np.random.default_rng(seed)
    token_ids, chunk_ids = [STATE], [0]
    for chunk in range(1, 5):
        size = int(rng.integers(1, 4))
        token_ids += rng.choice([MODE, PIXEL, ACTION, GRIP], size).tolist()
        chunk_ids += [chunk] * size
    directions = ((ACTION, PIXEL), (GRIP, STATE)) if blocked else ()
    return ChunkSchedule(tuple(token_ids), tuple(chunk_ids), directions)

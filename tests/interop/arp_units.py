"""Single parts of ARP against ``units.npz``: masks, binning, embeddings, attention, heads."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from arp_jax.interop.torch_state import conv_kernel
from arp_jax.models.attention import CrossAttention, SelfAttention
from arp_jax.models.chunk_schedule import allowed_pairs, relative_index, two_stream_mask
from arp_jax.models.heads import GaussianHead, gaussian_nll
from arp_jax.models.heatmap_head import ConvexUpsampler
from arp_jax.models.token_embeddings import position_1d, position_2d, sample_feature_grid
from arp_jax.models.tokens import TokenType, decode_values, encode_values
from tests.golden_files import GoldenCheck

Arrays = dict[str, np.ndarray]
ATTENTION_HEADS = 4


def check_units(data: Arrays, check: GoldenCheck) -> None:
    """Compare every group of the file."""
    groups = {
        "chk_index": _chunk_index,
        "mask": _masks,
        "coder": _coder,
        "embed": _positions,
        "feat_grid": _feature_grid,
        "upsample": _upsample,
        "attn": _attention,
        "gmm": _mixtures,
        "gauss_nll": _gaussian_nll,
    }
    assert {k.split("/")[0] for k in data} == set(groups), "units.npz has an unknown group"
    for function in groups.values():
        function(data, check)


def _chunk_index(data: Arrays, check: GoldenCheck) -> None:
    for key in [k for k in data if k.startswith("chk_index/") and k.endswith("/in")]:
        check.compare(key, relative_index(data[key]), data[key.removesuffix("in") + "out"])


def _generation_mask(chunk_ids: np.ndarray) -> np.ndarray:
    """[L, L] of a sequence whose last chunk is queries, read off the two-stream mask."""
    length, last = len(chunk_ids), chunk_ids == chunk_ids[-1]
    rows = np.arange(length) + length * last
    return two_stream_mask(chunk_ids)[np.ix_(rows, rows)]


def _masks(data: Arrays, check: GoldenCheck) -> None:
    ids = data["mask/chk_ids"][0]
    length = len(ids)
    mask = two_stream_mask(ids)
    check.compare("mask/train_star", mask[None, length:, :length], data["mask/train_star"])
    check.compare("mask/train_hat", mask[None, length:, length:], data["mask/train_hat"])
    check.compare("mask/value", mask[:length, :length], np.tril(np.ones((length, length))))
    check.compare("mask/eval", _generation_mask(ids)[None], data["mask/eval"])
    allowed = allowed_pairs(data["mask/tk_types"], [(2, 1), (0, 2)])
    check.compare("mask/dependency", allowed, data["mask/dependency_2to1_0to2"])


def _coder(data: Arrays, check: GoldenCheck) -> None:
    tokens = (
        TokenType("binned", dim=2, is_continuous=True, dict_sizes=(3, 100), bounds=(-1, 0, 0, 10)),
        TokenType("plain", dim=2, is_continuous=True, embedding="linear", predictor="gmm"),
    )
    ids = tuple(int(i) for i in data["coder/ids"][0])
    codes = encode_values(data["coder/vals"], ids, tokens)
    check.compare("coder/codes", codes, data["coder/codes"])
    check.compare("coder/decoded", decode_values(codes, ids, tokens), data["coder/decoded"])


def _positions(data: Arrays, check: GoldenCheck) -> None:
    for name, function in (("position_1d", position_1d), ("position_2d", position_2d)):
        for case, (scale, period) in enumerate([(1.0, 10000.0), (0.5, 100.0)]):
            key = f"embed/{name}/{case}"
            expected = data[f"{key}/out"]
            x = jnp.asarray(data[f"{key}/in"])
            check.compare(key, function(x, expected.shape[-1], scale, period), expected)


def _feature_grid(data: Arrays, check: GoldenCheck) -> None:
    features = jnp.asarray(data["feat_grid/feats"].transpose(0, 2, 3, 1))
    for name, stride, order in (
        ("xy", (1, 1), "xy"),
        ("hw", (1, 1), "hw"),
        ("stride23", (2, 3), "xy"),
    ):
        expected = data[f"feat_grid/{name}/out"]
        points = jnp.asarray(data[f"feat_grid/{name}/in"])
        found = sample_feature_grid(features, points, stride, order)
        check.compare(f"feat_grid/{name}", found.reshape(expected.shape), expected)


def _layers(data: Arrays, prefix: str, names: dict[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """Torch layers under ``prefix`` -> flax parameters, renamed."""
    found = {}
    for theirs, ours in names.items():
        weight = data[f"{prefix}/{theirs}.weight"]
        kernel = weight.T if weight.ndim == 2 else conv_kernel(weight)
        found[ours] = {"kernel": kernel, "bias": data[f"{prefix}/{theirs}.bias"]}
    return found


def _upsample(data: Arrays, check: GoldenCheck) -> None:
    names = {
        "net_out.0": "low_0",
        "net_out.2": "low_1",
        "net_out.4": "low_2",
        "net_mask.0": "mask_0",
        "net_mask.2": "mask_1",
    }
    params = _layers(data, "upsample/w", names)
    x = data["upsample/in"].transpose(0, 2, 3, 1)
    hidden = params["low_0"]["bias"].size
    ratio = data["upsample/out"].shape[-1] // x.shape[2]
    module = ConvexUpsampler(x.shape[-1], hidden, ratio, data["upsample/out"].shape[1])
    found = module.apply({"params": params}, jnp.asarray(x))
    check.compare("upsample", found.transpose(0, 3, 1, 2), data["upsample/out"])


def _attention(data: Arrays, check: GoldenCheck) -> None:
    star, hat = jnp.asarray(data["attn/x_star"]), jnp.asarray(data["attn/x_hat"])
    ids, width = data["mask/chk_ids"][0], star.shape[-1]
    length = len(ids)
    names = {"c_attn": "qkv", "c_proj": "out"}
    params = {"params": _layers(data, "attn/self/w", names)}
    module = SelfAttention(width, ATTENTION_HEADS, 0.1, 0.1)
    found, _ = module.apply(params, star, None, _generation_mask(ids), False)
    check.compare("attn/eval_out", found, data["attn/eval_out"])
    both = jnp.concatenate([star, hat], axis=1)
    found, _ = module.apply(params, both, None, two_stream_mask(ids), False)
    check.compare("attn/inter_star", found[:, :length], data["attn/inter_star"])
    check.compare("attn/inter_hat", found[:, length:], data["attn/inter_hat"])
    names = {"q_attn": "query", "c_proj": "out", "kv_attn": "kv"}
    params = _layers(data, "attn/cross/w", names)
    kv = params.pop("kv")
    keys_values = nn.Dense(2 * width).apply({"params": kv}, jnp.asarray(data["attn/cond"]))
    module = CrossAttention(width, ATTENTION_HEADS, 0.1, 0.1)
    found = module.apply({"params": params}, star, keys_values, False)
    check.compare("attn/cross_out", found, data["attn/cross_out"])


def _mixtures(data: Arrays, check: GoldenCheck) -> None:
    for name, count, low in (("K3_lv0", 3, False), ("K3_lv1", 3, True), ("K1_lv0", 1, False)):
        key = f"gmm/{name}"
        token = TokenType(
            "y",
            dim=2,
            is_continuous=True,
            embedding="linear",
            predictor="gmm",
            predictor_options={"num_latents": count, "low_var_eval": low},
        )
        x, label = jnp.asarray(data[f"{key}/x"])[None], jnp.asarray(data[f"{key}/label"])[None]
        head = GaussianHead(token, x.shape[-1])
        names = {"mlp.fc1": "fc1", "mlp.fc2": "fc2"}
        bound = head.bind({"params": _layers(data, f"{key}/w", names)})
        raw, _ = bound(x, {})
        check.compare(f"{key}/raw", raw[0], data[f"{key}/raw"])
        check.compare(f"{key}/nll", bound.token_loss(raw, label).mean(), data[f"{key}/nll"])
        mean, std = bound.mean_and_std(raw, low)
        check.compare(f"{key}/mean", mean[0], data[f"{key}/mean"])
        check.compare(f"{key}/std", std[0], data[f"{key}/std"])
        # The published single Gaussian gives one number per dimension.
        total = (lambda x: x.sum(-1)) if count == 1 else (lambda x: x)
        # ``eval_logp`` was taken 0.01 beside the mean, where the low-variance density is finite.
        for kind, low_variance, at in (("logp", False, label), ("eval_logp", low, mean + 0.01)):
            found = bound.log_prob(raw, at, low_variance)[0]
            check.compare(f"{key}/{kind}", found, total(data[f"{key}/{kind}"]))


def _gaussian_nll(data: Arrays, check: GoldenCheck) -> None:
    mean, variance, label = (jnp.asarray(data[f"gauss_nll/{k}"]) for k in ("mean", "var", "label"))
    check.compare("gauss_nll", gaussian_nll(mean, variance, label).mean(), data["gauss_nll/loss"])

"""Single parts of ARP against a golden file of them: masks, binning, embeddings, heads."""

import re

import jax.numpy as jnp
import numpy as np

from arp_jax.models.attention import SelfAttention
from arp_jax.models.chunk_schedule import allowed_pairs, relative_index, two_stream_mask
from arp_jax.models.context_attention import ContextAttention, attend_to_context
from arp_jax.models.convex_upsample import ConvexUpsampler
from arp_jax.models.heads import GaussianHead, gaussian_nll
from arp_jax.models.token_embeddings import position_1d, position_2d, sample_feature_grid
from arp_jax.models.tokens import TokenType, decode_values, encode_values
from tests.golden_files import GoldenCheck

Arrays = dict[str, np.ndarray]
ATTENTION_HEADS = 4


def check_units(data: Arrays, check: GoldenCheck) -> None:
    """Compare every entry of the file; groups may be missing, an unknown entry fails."""
    groups = {
        "chk_index": (_chunk_index, r"[^/]+/(in|out)"),
        "mask": (_masks, r"chk_ids|train_star|train_hat|eval|tk_types|dependency_\w+"),
        "coder": (_coder, r"vals|ids|codes|decoded"),
        "embed": (_positions, r"position_[12]d/[01]/(in|out|div_term)"),
        "feat_grid": (_feature_grid, r"feats|(xy|hw|stride\d\d)(_\w+)?/(in|out)"),
        "upsample": (_upsample, r"in|out|w/net_(out|mask)\.\d\.(weight|bias)"),
        "attn": (_attention, r"x_star|x_hat|cond|(eval|cross)_out|inter_(star|hat)|\w+/w/.+"),
        "gmm": (_mixtures, r"K\d+_lv[01]/(x|label|nll|(eval_)?logp|raw|mean|std|w/.+)"),
        "gauss_nll": (_gaussian_nll, r"mean|label|var|loss"),
    }
    for group in sorted({key.split("/")[0] for key in data}):
        assert group in groups, f"{check.name}: unknown group {group!r}"
        function, known = groups[group]
        for key in [k for k in data if k.startswith(f"{group}/")]:
            entry = key.removeprefix(f"{group}/")
            assert re.fullmatch(known, entry), f"{check.name}: unknown entry {key!r}"
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
    ids = data["mask/chk_ids"].reshape(-1, data["mask/chk_ids"].shape[-1])[0]
    length = len(ids)
    mask = two_stream_mask(ids)
    check.compare("mask/value", mask[:length, :length], np.tril(np.ones((length, length))))
    found = {
        "mask/train_star": mask[length:, :length],
        "mask/train_hat": mask[length:, length:],
        "mask/eval": _generation_mask(ids),
    }
    for key in found.keys() & data.keys():
        expected = data[key]
        check.compare(key, np.broadcast_to(found[key], expected.shape), expected)
    for key in [k for k in data if k.startswith("mask/dependency_")]:
        # Blocked pairs are in the name: dependency_2to1_0to2.
        pairs = [(int(a), int(b)) for a, b in re.findall(r"(\d+)to(\d+)", key)]
        check.compare(key, allowed_pairs(data["mask/tk_types"], pairs), data[key])


def _coder(data: Arrays, check: GoldenCheck) -> None:
    tokens = (
        TokenType("binned", dim=2, is_continuous=True, dict_sizes=(3, 100), bounds=(-1, 0, 0, 10)),
        TokenType("plain", dim=2, is_continuous=True, embedding="linear", predictor="gmm"),
    )
    ids = tuple(int(i) for i in data["coder/ids"][0])
    codes = encode_values(data["coder/vals"], ids, tokens)
    check.compare("coder/codes", codes, data["coder/codes"])
    if "coder/decoded" in data:
        check.compare("coder/decoded", decode_values(codes, ids, tokens), data["coder/decoded"])


def _positions(data: Arrays, check: GoldenCheck) -> None:
    for name, function in (("position_1d", position_1d), ("position_2d", position_2d)):
        for case, (scale, period) in enumerate([(1.0, 10000.0), (0.5, 100.0)]):
            key = f"embed/{name}/{case}"
            if f"{key}/out" in data:
                x, expected = jnp.asarray(data[f"{key}/in"]), data[f"{key}/out"]
                check.compare(key, function(x, expected.shape[-1], scale, period), expected)


def _feature_grid(data: Arrays, check: GoldenCheck) -> None:
    features = jnp.asarray(data["feat_grid/feats"].transpose(0, 2, 3, 1))
    for key in [k for k in data if re.fullmatch(r"feat_grid/.+/in", k)]:
        name = key.split("/")[1]
        digits = re.search(r"stride(\d)(\d)", name)
        stride = (int(digits[1]), int(digits[2])) if digits else (1, 1)
        points, expected = jnp.asarray(data[key]), data[f"feat_grid/{name}/out"]
        order = "hw" if "hw" in name else "xy"
        found = sample_feature_grid(features, points, stride, order)
        check.compare(f"feat_grid/{name}", found.reshape(expected.shape), expected)


def _layers(data: Arrays, prefix: str, names: dict[str, str]) -> dict[str, dict[str, np.ndarray]]:
    """Torch layers under ``prefix`` -> flax parameters, renamed."""
    found = {}
    for theirs, ours in names.items():
        weight = data[f"{prefix}/{theirs}.weight"]
        kernel = weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0)
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
    if "attn/cross_out" in data:
        _cross_attention(data, check, star)


def _cross_attention(data: Arrays, check: GoldenCheck, rows: jnp.ndarray) -> None:
    names = {"q_attn": "query", "c_proj": "out", "kv_attn": "key_value"}
    params = {"params": _layers(data, "attn/cross/w", names)}
    module = ContextAttention(rows.shape[-1], ATTENTION_HEADS)
    prepared = module.apply(params, jnp.asarray(data["attn/cond"]))

    def keep(weights: jnp.ndarray, deterministic: bool) -> jnp.ndarray:
        return weights

    found = attend_to_context(rows, prepared, ATTENTION_HEADS, keep, False)
    check.compare("attn/cross_out", found, data["attn/cross_out"])


def _mixtures(data: Arrays, check: GoldenCheck) -> None:
    for name in sorted({k.split("/")[1] for k in data if k.startswith("gmm/")}):
        digits = re.fullmatch(r"K(\d+)_lv([01])", name)
        _mixture(data, check, f"gmm/{name}", int(digits[1]), digits[2] == "1")


def _mixture(data: Arrays, check: GoldenCheck, key: str, count: int, low: bool) -> None:
    x, label = jnp.asarray(data[f"{key}/x"])[None], jnp.asarray(data[f"{key}/label"])[None]
    token = TokenType(
        "y",
        dim=label.shape[-1],
        is_continuous=True,
        embedding="linear",
        predictor="gmm",
        predictor_options={"num_latents": count, "low_var_eval": low},
    )
    head = GaussianHead(token, x.shape[-1])
    names = {"mlp.fc1": "fc1", "mlp.fc2": "fc2"}
    bound = head.bind({"params": _layers(data, f"{key}/w", names)})
    raw, _ = bound(x, {})
    mean, std = bound.mean_and_std(raw, low and count > 1)
    found = {
        "raw": raw[0],
        "nll": bound.token_loss(raw, label).mean(),
        "mean": mean[0],
        "std": std[0],
        "logp": bound.log_prob(raw, label)[0],
        # Taken 0.01 beside the mean, where the low-variance density is finite.
        "eval_logp": bound.log_prob(raw, mean + 0.01, low and count > 1)[0],
    }
    for part in [p for p in found if f"{key}/{p}" in data]:
        expected = data[f"{key}/{part}"]
        if count == 1 and part in ("logp", "eval_logp"):
            expected = expected.sum(-1)  # the published single Gaussian: one per dimension
        check.compare(f"{key}/{part}", found[part], expected)


def _gaussian_nll(data: Arrays, check: GoldenCheck) -> None:
    mean, variance, label = (jnp.asarray(data[f"gauss_nll/{k}"]) for k in ("mean", "var", "label"))
    check.compare("gauss_nll", gaussian_nll(mean, variance, label).mean(), data["gauss_nll/loss"])

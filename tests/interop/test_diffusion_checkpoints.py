"""Diffusion Policy checkpoints: what an imported policy computes is what PyTorch computes.

The networks are built in PyTorch from their specification (`torch_nets.py`), small, in each of the
published forms; files are written by torch.save as the two projects do.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax.interop.dataset_stats import STATS_PREFIX
from arp_jax.interop.diffusion import convert_diffusion, diffusion_to_torch, published_form
from arp_jax.interop.diffusion_files import diffusion_normalizer, normalizer_to_state, stats_of
from arp_jax.interop.torch_file import read_state, state_keys
from arp_jax.models.noise_schedule import sample_ddim
from arp_jax.normalize import normalize
from arp_jax.policies.diffusion import DiffusionConfig, DiffusionPolicy
from arp_jax.specs import ActionSpec, CameraSpec, FeatureSpec, ObservationSpec, PolicySpec
from tests.golden_files import FAST_COMPILE
from tests.interop.torch_nets import (
    AveragedTrunk,
    Keypoints,
    NumberedTrunk,
    Transformer,
    Unet,
    nn,
    randomize,
    torch,
)

H, A, S, SIDE, CROP = 8, 3, 4, 72, 64
WIDTH, KEYPOINTS, FEATURES = 16, 4, 6
SMALL = DiffusionConfig(
    cameras=("top", "wrist"),
    trunk_width=WIDTH,
    keypoints=KEYPOINTS,
    image_features=FEATURES,
    widths=(16, 32),
    step_size=8,
    kernel=3,
    groups=4,
    diffusion_steps=20,
    sampler="ddim",
    inference_steps=5,
)
CONFIGS = {
    "actpp": dataclasses.replace(SMALL, image_scale="unit", feature_relu=False),
    "keypoints": dataclasses.replace(SMALL, crop=(CROP, CROP)),
    "average": dataclasses.replace(
        SMALL, pool="average", image_scale="signed_imagenet", crop=(CROP, CROP)
    ),
    "shared": dataclasses.replace(SMALL, pool="average", shared_encoder=True),
    "vectors": dataclasses.replace(SMALL, cameras=()),
    "transformer": dataclasses.replace(
        SMALL, cameras=(), net="transformer", width=16, layers=2, heads=2
    ),
}


def make_policy(name):
    config = CONFIGS[name]
    features = [FeatureSpec("qpos", tuple(f"q{i}" for i in range(S)), "rad", "base")]
    if not config.cameras:
        features.append(FeatureSpec("object", ("x", "y"), "m", "world"))
    cameras = tuple(CameraSpec(camera, SIDE, SIDE) for camera in config.cameras)
    action = ActionSpec(
        tuple(f"a{i}" for i in range(A)), "rad", "base", (True,) * A, (-9.0,) * A, (9.0,) * A, 50.0
    )
    window = 1 if name == "actpp" else 2
    spec = PolicySpec(ObservationSpec(tuple(features), cameras), action, window, H)
    return DiffusionPolicy(config, spec)


class VisualCore(nn.Module):
    """robomimic's encoder of one camera, its parts registered twice as there."""

    def __init__(self):
        super().__init__()
        cells = CROP // 32
        self.backbone = NumberedTrunk(WIDTH)
        self.pool = Keypoints(8 * WIDTH, KEYPOINTS, cells, cells)
        last = nn.Linear(2 * KEYPOINTS, FEATURES)
        self.nets = nn.Sequential(self.backbone, self.pool, nn.Flatten(1), last)

    def forward(self, x):
        return torch.relu(self.nets(x))


def modules(**parts):
    return nn.ModuleDict({name: nn.ModuleDict(part) for name, part in parts.items()})


class Theirs(nn.Module):
    """A published policy: encoders and network under their names; `see` is the condition."""

    def __init__(self, name):
        super().__init__()
        self.form, config = name, CONFIGS[name]
        features = {"average": 8 * WIDTH, "shared": 8 * WIDTH}.get(name, FEATURES)
        seen = features * len(config.cameras) + S + (0 if config.cameras else 2)
        sizes = (config.widths, config.step_size, config.kernel, config.groups)
        if name == "actpp":
            cells = -(-SIDE // 32)
            pools = [Keypoints(8 * WIDTH, KEYPOINTS, cells, cells) for _ in range(2)]
            self.policy = nn.ModuleDict(
                {
                    "backbones": nn.ModuleList([NumberedTrunk(WIDTH) for _ in range(2)]),
                    "pools": nn.ModuleList(pools),
                    "linears": nn.ModuleList([nn.Linear(2 * KEYPOINTS, FEATURES) for _ in "ab"]),
                    "noise_pred_net": Unet(A, seen, *sizes),
                }
            )
            self.net = self.policy["noise_pred_net"]
            return
        if name == "keypoints":
            self.obs_encoder = modules(obs_nets={c: VisualCore() for c in config.cameras})
        if name in ("average", "shared"):
            names = ("rgb",) if name == "shared" else config.cameras
            self.obs_encoder = modules(key_model_map={c: AveragedTrunk(WIDTH) for c in names})
        if name == "transformer":
            self.model = Transformer(A, H, 2, seen, config.width, config.layers, config.heads)
        else:
            self.model = Unet(A, 2 * seen, *sizes)
        self.net = self.model

    def see(self, images, vectors):
        """{camera: [B, W, 3, h, w]} as scaled and cropped, [B, W, S] -> [B, W, C]."""
        parts = []
        for i, (camera, frames) in enumerate(images.items()):
            flat = frames.flatten(0, 1)
            if self.form == "actpp":
                policy = self.policy
                points = policy["pools"][i](policy["backbones"][i](flat)).flatten(1)
                features = policy["linears"][i](points)
            elif self.form == "keypoints":
                features = self.obs_encoder["obs_nets"][camera](flat)
            else:
                encoders = self.obs_encoder["key_model_map"]
                features = encoders["rgb" if self.form == "shared" else camera](flat)
            parts.append(features.reshape(*frames.shape[:2], -1))
        return torch.cat([*parts, vectors], -1)

    def published(self):
        """The state dict, without the second name that only this class has."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("net.")}


def observe(policy, seed=0):
    rng = np.random.default_rng(seed)
    lead = (2, policy.spec.window)
    observation: dict[str, np.ndarray] = {
        f.name: rng.normal(size=(*lead, f.size)).astype(np.float32)
        for f in policy.spec.observation.features
    }
    for camera in policy.spec.observation.cameras:
        shape = (*lead, camera.height, camera.width, 3)
        observation[camera.name] = rng.integers(0, 256, shape, dtype=np.uint8)
    return observation


def prepared(name, image):
    """Pixels as the published loaders and encoders have them."""
    x = torch.from_numpy(image).movedim(-1, 2).float() / 255  # [B, W, 3, h, w]
    if name != "actpp":
        x = 2 * x - 1
    if CONFIGS[name].crop:
        start = (SIDE - CROP) // 2
        x = x[..., start : start + CROP, start : start + CROP]
    if name == "average":
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (x - mean[:, None, None]) / std[:, None, None]
    return x


SLOW = pytest.mark.slow
FORMS = ["actpp", "keypoints", "transformer"]
MORE = [pytest.param(name, marks=SLOW) for name in ("average", "shared", "vectors")]


@pytest.fixture(scope="module", params=[*FORMS, *MORE])
def case(request):
    """(name, their policy, its state dict as arrays, our policy, parameters)."""
    torch.manual_seed(3)
    theirs = randomize(Theirs(request.param))
    state = {name: tensor.numpy() for name, tensor in theirs.published().items()}
    policy = make_policy(request.param)
    params, report = convert_diffusion(state, policy)
    report.raise_if_incomplete(request.param)
    return request.param, theirs, state, policy, params


def test_same_condition_and_same_prediction(case):
    name, theirs, _, policy, params = case
    observation = observe(policy)
    images = {camera: prepared(name, observation[camera]) for camera in policy.config.cameras}
    vectors = np.concatenate([observation[v] for v in policy.observation.vectors], -1)
    noisy = np.random.default_rng(1).normal(size=(2, H, A)).astype(np.float32)
    steps = np.array([3, 17])
    with torch.no_grad():
        seen = theirs.see(images, torch.from_numpy(vectors))
        condition = seen if name == "transformer" else seen.flatten(1)
        said = theirs.net(torch.from_numpy(noisy), torch.from_numpy(steps), condition)
    found = jax.jit(lambda p, o: policy._condition(p, o, None), compiler_options=FAST_COMPILE)(
        params, observation
    )
    np.testing.assert_allclose(found, condition.numpy(), atol=1e-4)
    apply = jax.jit(policy.net.apply, compiler_options=FAST_COMPILE)
    predicted = apply({"params": params["net"]}, noisy, steps, found)
    np.testing.assert_allclose(predicted, said.numpy(), atol=1e-4)


def test_the_way_back_is_exact(case):
    _, theirs, state, policy, params = case
    back = diffusion_to_torch(params, policy)
    for key, value in state.items():
        np.testing.assert_array_equal(back.pop(key), value, err_msg=key)
    # What is left are empty placeholders of modules that these tests do not build.
    assert all(key.endswith("_dummy_variable") and value.size == 0 for key, value in back.items())
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)


@pytest.mark.parametrize("name", ["vectors", pytest.param("transformer", marks=SLOW)])
def test_acting_prepares_what_each_level_needs(name):
    policy, observation = make_policy(name), observe(make_policy(name))
    rng = np.random.default_rng(4)
    batch = {"observation": observation, "action": np.zeros((2, H, A), np.float32)}
    shapes = jax.eval_shape(policy.init, jax.random.key(0), batch)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.1, s.shape), jnp.float32), shapes)
    condition = policy._condition(params, observation, None)
    start = jax.random.normal(jax.random.split(jax.random.key(5))[0], (2, H, A))

    def step_by_step(params):
        def predict(noisy, level):
            return policy.net.apply({"params": params["net"]}, noisy, level, condition)

        return sample_ddim(policy.schedule, predict, start, 5)

    expected = jax.jit(step_by_step, compiler_options=FAST_COMPILE)(params)
    act = jax.jit(policy.act, compiler_options=FAST_COMPILE)
    np.testing.assert_allclose(act(params, observation, jax.random.key(5)), expected, atol=1e-5)


def test_files_of_both_projects_are_read(tmp_path):
    torch.manual_seed(0)
    small = {"a.weight": torch.rand(2, 2)}
    average = {"a.weight": torch.rand(2, 2)}
    actpp, original = tmp_path / "policy.ckpt", tmp_path / "latest.ckpt"
    torch.save({"nets": small, "ema": average}, actpp)
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}}
    dicts = {"model": small, "ema_model": average, "optimizer": optimizer}
    torch.save({"cfg": {"name": "x"}, "state_dicts": dicts, "pickles": {"epoch": b"7"}}, original)
    for file, last in ((actpp, "nets"), (original, "state_dicts.model")):
        np.testing.assert_array_equal(read_state(file)["a.weight"], average["a.weight"])
        np.testing.assert_array_equal(read_state(file, last)["a.weight"], small["a.weight"])
    assert set(state_keys(actpp)) == {"nets", "ema"}
    without = tmp_path / "without.ckpt"
    torch.save({"nets": small, "ema": None}, without)
    np.testing.assert_array_equal(read_state(without)["a.weight"], small["a.weight"])


def original_normalizer():
    """Scale and offset of "vectors" as the original writes them; min and max of the data."""
    low = np.array([-1, 0, 2, -4, 0, 0], np.float32)
    high = np.array([1, 5, 3, 4, 10, 1], np.float32)
    scale = 2 / (high - low)
    state = {"obs.scale": scale, "obs.offset": -1 - scale * low}
    state |= {"action.scale": np.full(A, 0.5), "action.offset": np.full(A, 0.25)}
    return (
        {f"normalizer.params_dict.{k}": v.astype(np.float32) for k, v in state.items()},
        low,
        high,
    )


def test_the_originals_normalizer():
    policy = make_policy("vectors")
    state, low, high = original_normalizer()
    methods = dict.fromkeys(("qpos", "object", "action"), "min_max")
    found = diffusion_normalizer(state, policy, methods)
    for name, part in (("qpos", slice(0, S)), ("object", slice(S, None))):
        np.testing.assert_allclose(normalize(low[part], found[name]), -1, atol=1e-6)
        np.testing.assert_allclose(normalize(high[part], found[name]), 1, atol=1e-6)
    np.testing.assert_allclose(normalize(np.full(A, 3.0), found["action"]), 1.75, atol=1e-6)
    back = normalizer_to_state(found, policy)
    for key, value in state.items():
        np.testing.assert_allclose(back[key], value, rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"normalization\.qpos is 'limits', but its spec has none"):
        diffusion_normalizer(state, policy, {**methods, "qpos": "limits"})
    with pytest.raises(ValueError, match=r"there is no normalizer\.params_dict\.action\.scale"):
        diffusion_normalizer({}, policy, methods)


def test_image_scale_must_be_the_files():
    policy = make_policy("keypoints")
    state = {
        "normalizer.params_dict.action.scale": np.ones(A),
        "normalizer.params_dict.action.offset": np.zeros(A),
        "normalizer.params_dict.qpos.scale": np.ones(S),
        "normalizer.params_dict.qpos.offset": np.zeros(S),
    }
    for camera in policy.config.cameras:
        state |= {f"normalizer.params_dict.{camera}.scale": np.array([2.0])}
        state |= {f"normalizer.params_dict.{camera}.offset": np.array([-1.0])}
    methods = {"qpos": "min_max", "action": "min_max"}
    assert set(diffusion_normalizer(state, policy, methods)) == {"qpos", "action"}
    state["normalizer.params_dict.wrist.offset"] = np.array([0.0])
    with pytest.raises(ValueError, match=r"image_scale 'signed' .* trained with \(2\.0, 0\.0\)"):
        diffusion_normalizer(state, policy, methods)


def test_statistics_of_mobile_aloha():
    policy = make_policy("actpp")
    stats = {
        "qpos_mean": np.arange(S, dtype=np.float32),
        "qpos_std": np.full(S, 2.0, np.float32),
        "action_min": np.full(A, -3.0, np.float32),
        "action_max": np.full(A, 1.0, np.float32),
    }
    state = {f"{STATS_PREFIX}{name}": value for name, value in stats.items()}
    methods = {"qpos": "standard", "action": "min_max"}
    found = diffusion_normalizer(state, policy, methods)
    np.testing.assert_allclose(normalize(np.full(A, 0.0), found["action"]), 0.5)
    np.testing.assert_allclose(normalize(np.full(S, 4.0), found["qpos"]), [2, 1.5, 1, 0.5])
    for name, value in stats_of(found, policy).items():
        np.testing.assert_allclose(value, stats[name], atol=1e-6)
    with pytest.raises(ValueError, match=r"normalization\.qpos is 'min_max'; these weights need"):
        diffusion_normalizer(state, policy, {**methods, "qpos": "min_max"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_scale": "signed"}, r"image_scale 'signed': published weights with pool 'keypoi"),
        ({"trunk": "residual_attention_18"}, r"policy\.trunk 'residual_attention_18': published"),
        ({"shared_encoder": True}, r"policy\.shared_encoder: published keypoints"),
    ],
)
def test_policies_that_nobody_published(changes, message):
    policy = make_policy("actpp")
    policy.config = dataclasses.replace(policy.config, **changes)
    with pytest.raises(ValueError, match=message):
        published_form(policy)

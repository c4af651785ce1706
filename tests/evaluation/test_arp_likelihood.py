"""Likelihood of recorded episodes: hand-computed scores, padding, files, and sense."""

import csv
import dataclasses
import functools
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arp_jax import likelihood
from arp_jax.data.rlds import open_dataset
from arp_jax.evaluation import likelihood_report as report
from arp_jax.evaluation.likelihood import (
    EpisodeLikelihood,
    action_log_prob,
    altered,
    dataset_episodes,
    make_score_fn,
    score_episode,
)
from arp_jax.normalize import Affine
from arp_jax.policies.arp import ArpPolicy, ArpPolicyConfig
from arp_jax.specs import ActionSpec, FeatureSpec, ObservationSpec, PolicySpec
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes, write_folder

W, H = 2, 4
SPEC = PolicySpec(OBSERVATION_SPEC.select(["agent_pos"]), ACTION_SPEC, W, H, 1 - W)
LIMITS = Affine(np.full(2, 256.0, np.float32), np.full(2, 256.0, np.float32))
NORMALIZER = {"agent_pos": LIMITS, "action": LIMITS}
SMALL = ArpPolicyConfig(
    encoder="state",
    state_hidden=16,
    plan_head="mixture",
    plan_points=3,
    plan_components=2,
    layers=1,
    embed_dim=16,
    heads=2,
    dropout=0.5,
)


@dataclasses.dataclass(frozen=True)
class UnitGaussian:
    """Every action is N(newest observation, 1) per number, and there is one constant token."""

    spec: PolicySpec = SPEC

    def log_prob(self, params, batch):
        mean = batch["observation"]["agent_pos"][:, -1:, :]
        each = -0.5 * (batch["action"] - mean) ** 2 - 0.5 * jnp.log(2 * jnp.pi)
        return {"action": each.sum(-1), "mode": jnp.full((len(mean), 1), -0.5)}


def episode(steps=7, seed=0):
    (found,) = synthetic_episodes([steps], seed)
    return {"observation": {"agent_pos": found["agent_pos"]}, "action": found["action"]}


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_scores_by_hand(batch_size):
    recorded = episode()
    score = make_score_fn(UnitGaussian())
    found = score_episode(score, {}, recorded, SPEC, NORMALIZER, 5, batch_size)
    agent, action = (
        (x - 256) / 256 for x in (recorded["observation"]["agent_pos"], recorded["action"])
    )
    assert found.episode == 5
    for t in range(7):
        inside = [u for u in range(t - 1, t + 3) if 0 <= u < 7]  # the chunk starts at t - 1
        nats = sum(-0.5 * np.sum((action[u] - agent[t]) ** 2) - np.log(2 * np.pi) for u in inside)
        assert found.actions[t] == len(inside)
        np.testing.assert_allclose(found.sums("action")[t], nats, rtol=1e-5)
        np.testing.assert_allclose(found.total[t], nats - 0.5, rtol=1e-5)
        np.testing.assert_allclose(
            found.per_action_dim[t], (nats - 0.5) / (2 * len(inside)), rtol=1e-5
        )
    # Beyond the start: 1. Beyond the end, for t = 5 and 6: 1 + 2.
    assert found.excluded == 4
    assert found.counts("mode").sum() == 7
    assert found.score == pytest.approx(found.total.sum() / (24 * 2))


def test_moments_are_apart_and_worst_first():
    nats = np.float32([0, -5, -6, -4, 0, 0, -3, 0])[:, None]
    found = EpisodeLikelihood(
        0, {"action": nats}, {"action": np.ones_like(nats, bool)}, np.ones(8, int), 1
    )
    assert found.least_likely(2, apart=1) == [2, 1]
    assert found.least_likely(3, apart=2) == [2, 6, 0]
    assert found.least_likely(9, apart=100) == [2]


def test_policies_without_likelihood_are_refused():
    with pytest.raises(ValueError, match="has no log_prob"):
        make_score_fn(SimpleNamespace(spec=SPEC))


def test_not_finite_is_named():
    broken = SimpleNamespace(
        log_prob=lambda params, batch: {"action": jnp.full((1, H), jnp.nan)}, spec=SPEC
    )
    with pytest.raises(ValueError, match="episode 3, step 0: log-probability of 'action'"):
        score_episode(make_score_fn(broken), {}, episode(), SPEC, NORMALIZER, 3, 1)


# -- the ARP policy -------------------------------------------------------------------------------


def random_batch(policy, size=3, seed=0):
    rng = np.random.default_rng(seed)
    observation = {
        f.name: rng.uniform(-1, 1, (size, W, f.size)).astype(np.float32)
        for f in policy.spec.observation.features
    }
    action = rng.uniform(-0.9, 0.9, (size, H, 2)).astype(np.float32)
    pad = np.zeros((size, H), bool)
    return {"observation": observation, "action": action, "action_is_pad": pad}


def make_policy(**options):
    return ArpPolicy(dataclasses.replace(SMALL, **options), SPEC)


def random_params(policy, batch):
    """Every leaf random: at initialisation AdaLN layers are the identity; and nothing compiles."""
    shapes = jax.eval_shape(policy.init, jax.random.key(0), batch)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), shapes)


def evaluation_metrics(policy, params, batch):
    loss = jax.jit(functools.partial(policy.loss, train=False))
    return loss(params, batch, jax.random.key(0))[1]


def test_arp_mixture_log_prob_is_minus_the_loss():
    policy = make_policy(action_components=3)
    batch = random_batch(policy)
    params = random_params(policy, batch)
    found = jax.jit(policy.log_prob)(params, batch)
    assert {k: v.shape for k, v in found.items()} == {"coarse-plan": (3, 3), "fine-action": (3, H)}
    metrics = evaluation_metrics(policy, params, batch)
    for name, value in found.items():
        np.testing.assert_allclose(-value.mean(), metrics[f"{name}.nll_loss"], rtol=1e-5)


def test_arp_heatmap_log_prob_is_of_the_recorded_pixel():
    """Over all pixels that an action may name, the probabilities of its plan point sum to one."""
    policy = make_policy(plan_head="heatmap", heatmap_size=8, heatmap_upscale=4)
    batch = random_batch(policy, size=1)
    params = random_params(policy, batch)
    batch = jax.tree.map(lambda x: np.repeat(x, 64, axis=0), batch)
    pixels = (np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(64, 2) - 4) / 4
    batch["action"][:, -1] = pixels  # the plan starts with the last action
    first = np.asarray(jax.jit(policy.log_prob)(params, batch)["coarse-plan"][:, 0])
    assert (first < 0).all()
    assert np.exp(first).sum() == pytest.approx(1, abs=1e-4)
    assert np.ptp(first) > 0  # pixels differ, so the sum is not that of one value


@pytest.mark.parametrize("head", ["mixture", "class"])
def test_flat_tokens_are_scored_and_acted(head):
    policy = make_policy(
        prompt_feature="", plan_points=0, action_bins=10, action_chunk=4, action_head=head
    )
    batch = random_batch(policy)
    params = random_params(policy, batch)
    found = jax.jit(policy.log_prob)(params, batch)
    assert {k: v.shape for k, v in found.items()} == {"x": (3, H), "y": (3, H)}
    if head == "class":
        metrics = evaluation_metrics(policy, params, batch)
        np.testing.assert_allclose(-found["y"].mean(), metrics["y.ce_loss"], rtol=1e-5)
        return
    actions = jax.jit(policy.act)(params, batch["observation"], jax.random.key(1))
    assert actions.shape == (3, H, 2)
    bins = (np.asarray(actions) + 1) / 2 * 9
    np.testing.assert_allclose(bins, np.round(bins), atol=1e-4)  # fed back, so binned


def test_padding_reaches_plan_points_that_touch_it():
    policy = make_policy()
    batch = random_batch(policy)
    batch["action_is_pad"] = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]], bool)
    scored = policy.scored_tokens(jax.tree.map(jnp.asarray, batch))
    np.testing.assert_array_equal(scored["fine-action"], ~batch["action_is_pad"])
    # Plan points are actions 3, 1.5 and 0.
    np.testing.assert_array_equal(scored["coarse-plan"], [[1, 1, 1], [1, 1, 0], [0, 0, 1]])


@pytest.fixture(scope="module")
def trained():
    """A tiny ARP after a minute's worth of nothing: it has learned that actions follow the tool."""
    policy = make_policy(plan_points=0, dropout=0.0)
    rng = np.random.default_rng(0)
    example = random_batch(policy)
    params = jax.jit(policy.init)(jax.random.key(0), example)
    tx = optax.adam(1e-2)
    state = tx.init(params)

    @jax.jit
    def update(params, state, batch):
        loss = lambda p: policy.loss(p, batch, jax.random.key(0), train=False)[0]  # noqa: E731
        grads = jax.grad(loss)(params)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(params, updates), state

    for _ in range(100):
        curves = [smooth_episode(rng, H + W) for _ in range(32)]
        batch = {
            "observation": {"agent_pos": np.stack([c["agent"][:W] for c in curves])},
            "action": np.stack([c["action"][:H] for c in curves]),
            "action_is_pad": np.zeros((32, H), bool),
        }
        params, state = update(params, state, batch)
    return policy, params


def smooth_episode(rng, steps):
    """A tool on a random ellipse, normalised; the action is where it will be a step later."""
    phase, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.4)
    at = phase + speed * np.arange(steps + 1)
    path = 0.8 * np.stack([np.cos(at), np.sin(at)], axis=-1).astype(np.float32)
    return {"agent": path[:-1], "action": path[1:]}


def test_recorded_order_is_likelier_than_any_other(trained):
    policy, params = trained
    score = make_score_fn(policy)
    rng = np.random.default_rng(7)
    for number in range(4):
        curve = smooth_episode(rng, 24)
        recorded = {
            "observation": {"agent_pos": curve["agent"] * 256 + 256},
            "action": curve["action"] * 256 + 256,
        }
        scores = {
            how: score_episode(score, params, e, SPEC, NORMALIZER, number).score
            for how, e in {
                "recorded": recorded,
                "reversed": altered(recorded, "reversed"),
                "shuffled": altered(recorded, "shuffled", seed=number),
            }.items()
        }
        assert scores["recorded"] > scores["reversed"] + 1, scores
        assert scores["recorded"] > scores["shuffled"] + 1, scores
    with pytest.raises(ValueError, match="'mirrored' is unknown"):
        altered(recorded, "mirrored")


def test_drawn_trajectories(trained):
    policy, params = trained
    score = make_score_fn(policy)
    curve = smooth_episode(np.random.default_rng(3), H + 1)
    observation = {"agent_pos": curve["agent"][:W] * 256 + 256}
    real = curve["action"][:H] * 256 + 256
    both = action_log_prob(
        score, params, SPEC, NORMALIZER, observation, np.stack([real, real[::-1]])
    )
    assert both["fine-action"].shape == (2, H)
    assert both["fine-action"][0].sum() > both["fine-action"][1].sum() + 1
    alone = action_log_prob(score, params, SPEC, NORMALIZER, observation, real)
    np.testing.assert_allclose(alone["fine-action"][0], both["fine-action"][0], rtol=1e-4)
    # The same straight line drawn with two points or with seven.
    line = np.linspace(real[0], real[-1], 7)
    few, many = (
        action_log_prob(score, params, SPEC, NORMALIZER, observation, path)["fine-action"]
        for path in (line[[0, -1]], line)
    )
    np.testing.assert_allclose(few, many, rtol=1e-3)
    with pytest.raises(ValueError, match="actions must be"):
        action_log_prob(score, params, SPEC, NORMALIZER, observation, np.zeros((5, 3)))


# -- files and command ----------------------------------------------------------------------------


@pytest.fixture
def scored():
    score = make_score_fn(UnitGaussian())
    lengths = (9, 14, 6)
    return [
        score_episode(score, {}, episode(n, seed=i), SPEC, NORMALIZER, i)
        for i, n in enumerate(lengths)
    ]


def test_files_hold_the_scores(scored, tmp_path):
    report.write_csv(tmp_path / "a.csv", scored)
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0].startswith("# nats; ")
    assert "per normalised unit" in lines[0]
    rows = list(csv.DictReader(lines[1:]))
    assert len(rows) == 9 + 14 + 6
    assert float(rows[9]["total"]) == pytest.approx(scored[1].total[0], rel=1e-5)
    assert rows[9]["action_tokens"] == "3"
    altered_scores = {"reversed": scored}
    report.write_summary(tmp_path / "s.json", scored, {"run": "r"}, altered_scores)
    document = json.loads((tmp_path / "s.json").read_text())
    values = [e["per_action_dim"] for e in document["episodes"]]
    assert values == sorted(values)
    assert document["summary"]["score"]["n"] == 3
    assert document["altered"]["reversed"]["minus_recorded"]["difference"]["value"] == 0
    low, high = (document["summary"]["score"][k] for k in ("low", "high"))
    assert low <= np.mean(values) <= high


def test_picture_is_drawn_with_and_without_frames(scored):
    frames = np.zeros((9, 8, 8, 3), np.uint8)
    with_frames = report.draw_episode(scored[0], frames, rate_hz=10.0)
    without = report.draw_episode(scored[0], None, rate_hz=10.0)
    for png in (with_frames, without):
        assert png.startswith(b"\x89PNG")
    assert with_frames != without


def test_dataset_episodes_are_chosen_and_checked(tmp_path):
    dataset = open_dataset(write_folder(tmp_path / "toy", synthetic_episodes([5, 6, 7])))
    found = list(dataset_episodes(dataset, "train", SPEC, [0, 2], ["image"]))
    assert [n for n, _ in found] == [0, 2]
    assert found[1][1]["observation"]["image"].shape == (7, 4, 4, 3)
    assert [n for n, _ in dataset_episodes(dataset, "train[1:]", SPEC)] == [0, 1]
    with pytest.raises(ValueError, match=r"--episodes 3: 'train' has episodes 0 \.\. 2"):
        list(dataset_episodes(dataset, "train", SPEC, [3]))
    other = ActionSpec(("x", "y"), "m", "world", (True,) * 2, (0.0,) * 2, (1.0,) * 2, 10.0)
    with pytest.raises(ValueError, match="disagree on"):
        list(dataset_episodes(dataset, "train", dataclasses.replace(SPEC, action=other)))
    joints = ObservationSpec((FeatureSpec("joints", ("j",), "rad", "joint"),))
    with pytest.raises(ValueError, match="'joints'"):
        list(dataset_episodes(dataset, "train", dataclasses.replace(SPEC, observation=joints)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--dataset=x"], "no run at nowhere"),
        (["nowhere", "--dataset=x", "--batch=0"], "--batch must be at least 1"),
    ],
)
def test_wrong_usage_is_one_line(arguments, message, capsys):
    assert likelihood.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


def test_command_writes_table_and_pictures(trained, tmp_path, monkeypatch, capsys):
    """The command from the loaded run on; reading a run is tested where it is written."""
    policy, params = trained
    loaded = SimpleNamespace(
        policy=policy, params=params, spec=SPEC, normalizer=NORMALIZER, step=100
    )
    monkeypatch.setattr(likelihood, "load_run", lambda *args, **options: loaded)
    folder = write_folder(tmp_path / "toy/1.0.0", synthetic_episodes([12, 9, 10]))
    out = tmp_path / "out"
    flags = [f"--dataset={folder}", "--episodes=0,2", "--altered", f"--out={out}"]
    assert likelihood.main(["run", *flags]) == 0
    printed = capsys.readouterr().out
    assert "per action number" in printed
    assert "reversed" in printed
    names = {"likelihood.csv", "summary.json", "episode_0.png", "episode_2.png"}
    assert {p.name for p in out.iterdir()} == names
    document = json.loads((out / "summary.json").read_text())
    assert {e["episode"] for e in document["episodes"]} == {0, 2}
    assert document["about"]["log_scale_of_an_action"] == pytest.approx(2 * np.log(256))

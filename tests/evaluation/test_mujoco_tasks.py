"""A MuJoCo task evaluated as a user does it: engines, expert, shards, randomisation, pictures."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arp_jax import evaluate, merge_evaluations
from arp_jax.evaluation.controllers import Controller
from arp_jax.evaluation.environments import default_engine, make_arena
from arp_jax.evaluation.protocol import RolloutConfig
from arp_jax.evaluation.video import read_video
from arp_jax.sim import tasks
from arp_jax.sim.randomize import FieldRange
from arp_jax.sim.render import OffscreenRenderer
from tests.sim.tiny_task import load_model

RANGES = (FieldRange("body_mass", ("block",), 0.5, 4.0),)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """The tiny task, by its name."""
    modules = ("tests.sim.tiny_task", "tests.evaluation.tiny_expert")
    monkeypatch.setitem(tasks.TASKS, "tiny", modules)


def push(params, decision):
    """Five times the same random target, not so far that the block always arrives."""
    return jnp.full((5, 1), 0.3 * jax.random.uniform(decision.rng))


def random_results(engine, envs=4, film=False, **options):
    arena = make_arena("tiny", engine=engine, **options)
    controller = Controller("push", 1, 5, push)
    config = RolloutConfig(episodes=9, envs=envs, seed=3, max_steps=22)
    return arena.classified(arena.make_rollout(controller, config, None, film)({}, iter))


def test_outcomes_do_not_depend_on_the_number_of_simulations():
    some, all_ = random_results("native", 4), random_results("native", 9)
    for name in ("initial", "length", "success", "max_reward"):
        np.testing.assert_array_equal(getattr(some, name), getattr(all_, name))
    assert some.success.any()
    assert not some.success.all()


def test_episodes_are_classified_by_the_task():
    results = random_results("native", randomize=RANGES)
    assert results.sub_goals == ("touched", "arrived")
    assert results.class_names == {"side": ("left", "right")}
    assert results.initial.shape == (9, 3)  # two of the task, one that is randomised
    np.testing.assert_array_equal(results.classes["side"], results.initial[:, 1] > 0)
    assert ((results.initial[:, 2] >= 0.5) & (results.initial[:, 2] <= 4)).all()
    plain = random_results("native")
    assert plain.initial.shape == (9, 2)


@pytest.mark.slow
def test_mjx_and_native_give_the_same_outcomes():
    native, mjx = random_results("native", film=True), random_results("mjx", film=True)
    np.testing.assert_array_equal(mjx.initial, native.initial)
    np.testing.assert_array_equal(mjx.success, native.success)
    np.testing.assert_array_equal(mjx.length, native.length)
    pairs = zip(native.frames(range(9)), mjx.frames(range(9)), strict=True)
    apart = max(np.abs(a["qpos"][:, :3] - b["qpos"][:, :3]).max() for a, b in pairs)
    print(f"native against mjx: block at most {1e3 * apart:.3f} mm apart")
    assert apart < 5e-3


def test_the_platform_chooses_the_engine():
    assert default_engine("push_t") == "analytic"
    assert default_engine("tiny") == "native"  # tests run on the CPU
    with pytest.raises(ValueError, match="--engine analytic does not run tiny"):
        make_arena("tiny", engine="analytic")
    with pytest.raises(ValueError, match="--engine native does not run push_t"):
        make_arena("push_t", engine="native")
    with pytest.raises(ValueError, match="push_t has none"):
        make_arena("push_t", randomize=RANGES)


FLAGS = ["--policy=expert", "--env=tiny", "--episodes=8", "--envs=4", "--seed=5", "--max_steps=50"]


def test_shards_of_an_expert_merge_into_its_evaluation(tmp_path, capsys):
    folders = [tmp_path / name for name in ("whole", "0", "1")]
    shards = [[], ["--shard=0/2"], ["--shard=1/2"]]
    for folder, shard in zip(folders, shards, strict=True):
        assert evaluate.main([*FLAGS, *shard, f"--out={folder}", "--videos=0"]) == 0
    printed = capsys.readouterr().out
    assert "reward >= 1  touched" in printed
    assert merge_evaluations.main([str(tmp_path / "merged"), *map(str, folders[1:])]) == 0
    whole, merged = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "merged")
    )
    assert 0 < whole["success"] < 1
    assert whole["factors"]["side"]["left"]["rate"] == 0
    assert whole["factors"]["side"]["right"]["rate"] == 1
    for key in ("n", "success", "factors", "sub_goals", "mean_length", "protocol"):
        assert merged[key] == whole[key]
    assert whole["protocol"]["engine"] == "native"
    assert merge_evaluations.main([str(tmp_path / "twice"), *map(str, folders)]) == 2
    assert "episode 0 is in two shards" in capsys.readouterr().err


def test_pictures_show_success_and_failure(tmp_path):
    try:
        with OffscreenRenderer(load_model(), 16, 16):
            pass
    except RuntimeError as error:
        pytest.skip(f"no OpenGL: {error}")
    out = tmp_path / "out"
    friction = tmp_path / "friction.json"
    friction.write_text('[{"field": "body_mass", "names": ["block"], "low": 0.5, "high": 2}]')
    assert evaluate.main([*FLAGS, f"--out={out}", "--videos=3", f"--randomize={friction}"]) == 0
    assert {"episodes.mp4", "failures.mp4", "failures.png"} <= {p.name for p in out.iterdir()}
    page = (out / "report.html").read_text()
    assert "<h2>Failures</h2>" in page
    film = read_video(out / "failures.mp4")
    assert film.std() > 10
    # 50 steps at 25 Hz, shown at 12.5 Hz: the first frame, every second one, the last.
    assert len(film) == 26
    protocol = json.loads((out / "summary.json").read_text())["protocol"]
    assert protocol["randomize"][0]["names"] == ["block"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy=expert", "--env=push_t"], "push_t has no scripted expert"),
        (["--policy=random", "--env=tiny", "--ensemble=0.1"], "predicts no chunks"),
        (["--policy=random", "--env=tiny", "--engine=analytic"], "does not run tiny"),
        (["--policy=random", "--env=tiny", "--shard=4/4"], "--shard 4/4"),
        (["--policy=random", "--env=tiny", "--shard=x"], "not of the form i/n"),
        (["--policy=random", "--env=tiny", "--public_seeds"], "tiny has no public seeds"),
        (["--policy=random", "--env=tiny", "--randomize=nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_usage_is_one_line(arguments, message, capsys):
    assert evaluate.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error

"""Mixes, their shares and agreement, and batches of several packs."""

import dataclasses

import numpy as np
import pytest

from arp_jax.data.cards import load_card
from arp_jax.data.examples import Examples
from arp_jax.data.mixes import DIFFERENCES, MIXES, Mix, find_mix, override
from arp_jax.data.mixture_loader import MixtureLoader
from arp_jax.data.mixtures import check_agreement, main, member_shares
from arp_jax.data.pack import open_pack, pack_dataset
from arp_jax.normalize import affine_from_limits, unnormalize
from arp_jax.specs import ObservationSpec, PolicySpec, SpecMismatch
from tests.data.rlds_folder import ACTION_SPEC, OBSERVATION_SPEC, synthetic_episodes, write_folder

SPEC = PolicySpec(OBSERVATION_SPEC, ACTION_SPEC, window=2, horizon=4, action_offset=-1)
LIMITS = affine_from_limits([0, 0], [512, 512])
NORMALIZER = {"agent_pos": LIMITS, "action": LIMITS}
LENGTHS = ([5, 1, 9, 4], [7, 3], [6])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Packs a, b and c of 19, 10 and 6 steps."""
    folder = tmp_path_factory.mktemp("mixtures")
    for index, (name, lengths) in enumerate(zip("abc", LENGTHS, strict=True)):
        source = write_folder(folder / f"rlds_{name}", synthetic_episodes(lengths, seed=index))
        pack_dataset(source, folder / name, ["agent_pos", "image"], progress=False).close()
    return folder


@pytest.fixture(scope="module")
def members(folder):
    packs = [open_pack(folder / name) for name in "abc"]
    return [Examples(pack, SPEC, NORMALIZER, seed) for seed, pack in enumerate(packs)]


def loader_of(members, batch_size=8, position=0, host=(0, 1)):
    return MixtureLoader(members, [5, 2, 1], batch_size, 3, position, host)


def flat(batch):
    entries = {**batch.pop("observation"), **batch}
    return {name: np.asarray(value) for name, value in entries.items()}


def assert_equal(left, right):
    left, right = flat(left), flat(right)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_array_equal(value, right[name])


def test_examples_come_from_their_members_in_exact_shares(members):
    loader = loader_of(members)
    newest = [
        np.concatenate([e["agent_pos"] for e in synthetic_episodes(lengths, seed=index)])
        for index, lengths in enumerate(LENGTHS)
    ]
    for position in (0, 1, 7):  # a block has 8 examples: so has a batch
        batch = loader.batch_at(position)
        agent = unnormalize(batch["observation"]["agent_pos"][:, -1], LIMITS)
        owners = [
            next(i for i, rows in enumerate(newest) if np.abs(rows - pos).max(1).min() < 1e-3)
            for pos in agent
        ]
        assert np.bincount(owners, minlength=3).tolist() == [5, 2, 1]
        assert owners == loader.sources(loader.stream_at(position))[0].tolist()
    assert loader.num_windows == 19 + 10 + 6


def test_each_member_goes_through_its_own_epochs(members):
    loader = loader_of(members)
    stream = np.arange(8 * 6)  # member c has 6 examples, one a block: an epoch in six blocks
    owners, positions = loader.sources(stream)
    _, seen = members[2].at(positions[owners == 2])
    assert sorted(seen) == list(range(6))
    epochs, seen = members[0].at(positions[owners == 0])  # 30 of 19
    assert sorted(seen[epochs == 0]) == list(range(19))


@pytest.mark.parametrize("position", [0, 1, 5, 1000])
def test_resumes_at_any_position(members, position):
    straight = loader_of(members, batch_size=6)  # batches straddle blocks
    straight.position = max(position - 2, 0)
    while straight.position < position:
        next(straight)
    resumed = loader_of(members, batch_size=6, position=position)
    for _ in range(3):
        assert_equal(next(straight), next(resumed))
    assert straight.position == position + 3


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_share_the_same_global_batch(members, hosts):
    whole = loader_of(members, batch_size=6)
    parts = [loader_of(members, batch_size=6, host=(i, hosts)) for i in range(hosts)]
    for _ in range(4):
        batch, slices = flat(next(whole)), [flat(next(part)) for part in parts]
        for name, value in batch.items():
            np.testing.assert_array_equal(value, np.concatenate([s[name] for s in slices]))


def test_shares_by_draw_step_and_episode():
    # By hand, of a block of 1024: weights 3, 1; steps 100, 300; episodes 10, 2.
    mix = Mix((("a", 3.0), ("b", 1.0)), weighting="draw")
    expected = {"draw": (768, 256), "step": (512, 512), "episode": (960, 64)}
    for weighting, counts in expected.items():
        shares = member_shares(override(mix, weighting, ""), [10, 2], [100, 300])
        assert tuple(share.count for share in shares) == counts
    # episode: 1024 examples drawn are 960 of 100 and 64 of 300.
    assert [share.epochs(1024) for share in shares] == [9.6, 64 / 300]
    assert shares[0].fraction == 0.9375


def test_published_mixes():
    # rt1.md 7.3: 273 in all, of which fractal 150.
    rtx = MIXES["rtx"]
    assert sum(weight for _, weight in rtx.members) == 273
    shares = member_shares(rtx, [1] * 10, [1] * 10)
    assert abs(shares[0].fraction - 150 / 273) < 1e-3
    assert abs(shares[7].fraction - 3 / 273) < 1e-3
    # act.md 2.1: share of the static set, held-out share, whose statistics.
    table = {
        "wash_pan": (0.5, 0.1, 1),
        "wipe_wine": (0.5, 0.1, 1),
        "wipe_wine_2": (0.5, 0.1, 1),
        "chair_truncated": (0.5, 0.05, 1),
        "shrimp_truncated": (0.5, 0.01, 1),
        "high_five": (0.25, 0.1, 1),
        "cabinet": (0.2, 0.01, 1),
        "elevator_truncated": (1 / 9, 0.01, 2),
    }
    for name, (static, held_out, stats) in table.items():
        mix = MIXES[name]
        assert mix.members[0][0] == mix.stats[0] == name
        assert mix.members[-1][0] == "aloha_compressed_dataset"
        weights = [weight for _, weight in mix.members]
        assert weights[-1] / sum(weights) == pytest.approx(static)
        assert (mix.validation_fraction, len(mix.stats)) == (held_out, stats)
        assert mix.weighting == "draw"
        assert set(mix.stats) <= {member for member, _ in mix.members}
    alone = [weight for _, weight in MIXES["elevator_truncated_alone"].members]
    assert alone == [3, 3, 2]


def test_free_mixes_are_read():
    mix = find_mix("push_t/1.0.0=5, other = 0.5")
    assert mix.members == (("push_t/1.0.0", 5.0), ("other", 0.5))
    assert (mix.weighting, mix.stats) == ("step", ())
    mix = override(mix, "draw", "rate, limits")
    assert (mix.weighting, mix.differences) == ("draw", ("rate", "limits"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtz", "mixture 'rtz' is unknown; did you mean 'rtx'"),
        ("zzz", "there are rtx, rtx_metric, bridge_fractal"),
        ("a=1,b", "mixture: 'b' is not PATH=WEIGHT"),
        ("a=x", "mixture: 'a=x' is not PATH=WEIGHT"),
        ("=1", "mixture: '=1' is not PATH=WEIGHT"),
        ("a=1,a=2", "name every member once"),
        ("a=0", "weight of 'a' must be positive, found 0.0"),
        ("a=nan", "weight of 'a' must be positive, found nan"),
    ],
)
def test_wrong_mixes_are_one_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        find_mix(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="mixture_weights 'steps' is unknown"):
        override(find_mix("a=1"), "steps", "")
    with pytest.raises(ValueError, match="mixture_differences 'color' is unknown"):
        override(find_mix("a=1"), "", "rate,color")


MIX = Mix((("target", 1.0), ("other", 1.0)))
FEATURE, CAMERA = OBSERVATION_SPEC.features[0], OBSERVATION_SPEC.cameras[0]


@pytest.mark.parametrize(
    ("feature", "camera", "action", "message"),
    [
        ({}, {}, {"dims": ("x", "z")}, r"action\.dims: expected \('x', 'y'\), found \('x', 'z'\)"),
        ({}, {}, {"unit": "m"}, r"action\.unit: expected 'px', found 'm'"),
        ({}, {}, {"absolute": (True, False)}, r"action\.absolute"),
        ({}, {}, {"gripper": "open=1"}, r"action\.gripper: expected None, found 'open=1'"),
        ({"unit": "m"}, {}, {}, r"agent_pos\.unit"),
        ({"dims": ("u", "v")}, {}, {}, r"agent_pos\.dims"),
        ({}, {"height": 8}, {}, r"size of image: expected \(4, 4\), found \(8, 4\)"),
        ({}, {"color_order": "bgr"}, {}, r"image\.color_order"),
        (
            {},
            {},
            {"rate_hz": 5.0},
            r"action\.rate_hz: .*mixture_differences='rate'",
        ),
        ({}, {}, {"frame": "base"}, r"action\.frame: .*mixture_differences='frame'"),
        ({"high": (1.0, 1.0)}, {}, {}, r"agent_pos limits: .*mixture_differences='limits'"),
    ],
)
def test_disagreement_names_member_and_field(feature, camera, action, message):
    observation = dataclasses.replace(
        OBSERVATION_SPEC,
        features=(dataclasses.replace(FEATURE, **feature),),
        cameras=(dataclasses.replace(CAMERA, **camera),),
    )
    other = (observation, dataclasses.replace(ACTION_SPEC, **action))
    with pytest.raises(SpecMismatch, match=f"other and target differ in {message}"):
        check_agreement(MIX, [(OBSERVATION_SPEC, ACTION_SPEC), other])


def test_permitted_differences_become_notes():
    mix = override(MIX, "", "rate,frame,limits")
    action = dataclasses.replace(ACTION_SPEC, rate_hz=5.0, frame="base")
    notes = check_agreement(mix, [(OBSERVATION_SPEC, ACTION_SPEC), (OBSERVATION_SPEC, action)])
    assert notes == [
        [],
        ["action.rate_hz 5.0 (target 10.0)", "action.frame base (target world)"],
    ]


def public_specs(name):
    """(observation, action) of a mix's members: what all observe, cameras in one size."""
    specs = []
    mix = MIXES[name]
    for member, _ in mix.members:
        card = load_card(f"{member}:{mix.action_space}" if mix.action_space else member)
        camera = dataclasses.replace(
            card.specs.observation.select(["image"]).cameras[0], height=256, width=320
        )
        sentence = card.specs.observation.feature("language_embedding")
        specs.append((ObservationSpec((sentence,), (camera,)), card.specs.action))
    return specs


@pytest.mark.parametrize("name", ["rtx", "rtx_metric", "bridge_fractal"])
def test_public_mixes_agree_once_pictures_have_one_size(name):
    notes = check_agreement(MIXES[name], public_specs(name))
    assert notes[0] == []
    assert any("action.rate_hz" in note for note in notes[1])


def test_rtx_members_do_not_agree_in_physical_units():
    (first, _), (_, fractal) = public_specs("rtx_metric")[0], public_specs("rtx_metric")[0]
    jaco = load_card("jaco_play").specs.action
    mix = Mix((("fractal20220817_data", 1.0), ("jaco_play", 1.0)), differences=DIFFERENCES)
    with pytest.raises(SpecMismatch, match=r"jaco_play and fractal.* differ in action\.unit"):
        check_agreement(mix, [(first, fractal), (first, jaco)])


def test_command_prints_the_table(folder, capsys):
    assert main([]) == 0
    assert "elevator_truncated_alone" in capsys.readouterr().out
    arguments = ["a=2,c=1", f"--source={folder}", "--steps=100", "--batch_size=8"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    # 2 x 19 and 1 x 6 steps of a block of 1024: 884.4 -> 884 and 139.6 -> 140.
    row = next(line for line in lines if line.strip().startswith("a "))
    assert row.split() == ["a", "2", "4", "19", "86.33%", "691", "36.35"]
    assert main(["a=2,nothing=1", f"--source={folder}"]) == 2
    assert "nothing' is no directory" in capsys.readouterr().err

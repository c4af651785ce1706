"""The analytic engine against pymunk, through gym-pusht, open loop."""

import numpy as np
import pytest

from benchmarks import push_t_fidelity as fidelity

pytest.importorskip("gym_pusht")


def test_random_actions_stay_within_a_hundredth_of_a_pixel():
    """Uniform noise, no walls touched early on: 12 episodes, 10 steps."""
    episodes = fidelity.adversarial_episodes(36, seed=0)[2::3]
    rollouts = fidelity.roll_reference([(i, c, 10) for i, c, _ in episodes])
    block, covered = fidelity.roll_ours(rollouts, "analytic")
    error = fidelity.position_error(block, rollouts.block)
    moved = np.linalg.norm(rollouts.block[:, -1, :2] - rollouts.block[:, 0, :2], axis=-1)
    assert (moved > 5).sum() >= 4  # otherwise nothing was tested
    assert np.quantile(error[:, -1], 0.9) < 0.01
    assert np.quantile(np.abs(covered - rollouts.coverage), 0.9) < 1e-4


def test_adversarial_pushes_mostly_agree():
    """Held targets and pushes through the block, walls included: 30 episodes, 20 steps."""
    episodes = [e for n, e in enumerate(fidelity.adversarial_episodes(45, seed=0)) if n % 3 < 2]
    rollouts = fidelity.roll_reference([(i, c, 20) for i, c, _ in episodes])
    block, _ = fidelity.roll_ours(rollouts, "analytic")
    error = fidelity.position_error(block, rollouts.block)[:, -1]
    # What differs is squeezed between agent and wall, where pymunk's contact order decides.
    assert np.mean(error < 0.1) > 0.65
    assert np.median(error) < 1e-3


def test_human_demonstrations_replay_exactly(shared_dir):
    path = shared_dir / "data" / "pusht_cchi_v7_replay.zarr"
    demonstrations = fidelity.read_demonstrations(path)[:8]
    rollouts = fidelity.roll_reference([(i, fidelity.replay(a), len(a)) for i, a in demonstrations])
    row = fidelity.compare_demonstrations(rollouts, "analytic")
    assert row["final_within_1_px"] == 1
    assert row["final_max_px"] < 0.1
    assert row["max_coverage_difference"] < 0.005
    assert row["success_agreement"] == 1


def test_missing_data_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match="no zarr replay here"):
        fidelity.read_demonstrations(tmp_path)

"""The paired bootstrap agrees with plain AUC, covers a known difference at its level, and pairing narrows it."""

import numpy as np
import pytest

from bench.bootstrap import Resampled, UserBootstrap, mean_of
from core.arrays import Floats, Ints, auc


def world(n_users: int, rng: np.random.Generator) -> tuple[Ints, Floats, Floats, Floats]:
    """Rows of users with tastes; score a sees the truth with less noise than score b. Tied scores occur."""
    user = np.repeat(np.arange(n_users), rng.integers(1, 9, n_users))
    signal = rng.normal(size=n_users)[user] * 0.7 + rng.normal(size=len(user))
    label = (rng.random(len(user)) < 1 / (1 + np.exp(-signal))).astype(float)
    a = np.round(signal + rng.normal(size=len(user)) * 0.5, 1)
    b = np.round(signal + rng.normal(size=len(user)) * 1.0, 1)
    return user, label, a, b


def test_the_value_is_auc_and_a_redraw_is_auc_of_the_repeated_rows() -> None:
    user, label, a, _ = world(60, np.random.default_rng(0))
    boot = UserBootstrap(user, n_draws=5, seed=1)
    found = boot.auc(label, a)
    assert found.value == pytest.approx(auc(label > 0, a), abs=1e-12)
    for draw in range(5):
        rows = np.repeat(np.arange(len(user)), boot._times[draw + 1][boot._user])
        assert found.draws[draw] == pytest.approx(auc(label[rows] > 0, a[rows]), abs=1e-12)


def test_the_interval_covers_a_known_difference_at_its_level() -> None:
    _, label, a, b = world(300_000, np.random.default_rng(7))
    truth = auc(label > 0, a) - auc(label > 0, b)
    assert truth > 0.02
    rng, covered, n = np.random.default_rng(8), 0, 150
    for seed in range(n):
        user, label, a, b = world(250, rng)
        boot = UserBootstrap(user, n_draws=200, seed=seed)
        low, high = (boot.auc(label, a) - boot.auc(label, b)).interval(0.90)
        covered += low <= truth <= high
    share, error = covered / n, np.sqrt(0.9 * 0.1 / n)
    assert abs(share - 0.90) < 3 * error + 0.01  # percentile intervals of few users are slightly narrow


def test_pairing_and_clusters_matter() -> None:
    user, label, a, b = world(600, np.random.default_rng(3))
    boot, other = UserBootstrap(user, seed=1), UserBootstrap(user, seed=2)
    paired = np.ptp((boot.auc(label, a) - boot.auc(label, b)).interval())
    unpaired = np.ptp((boot.auc(label, a) - other.auc(label, b)).interval())
    assert paired < 0.8 * unpaired
    everyone_alike = np.repeat(np.arange(30), 20)  # 30 users, 20 identical rows each: 30 facts, not 600
    label, score = (everyone_alike % 2 == 0).astype(float), np.random.default_rng(4).normal(size=30)[everyone_alike]
    by_user = np.ptp(UserBootstrap(everyone_alike, seed=1).auc(label, score).interval())
    by_row = np.ptp(UserBootstrap(np.arange(600), seed=1).auc(label, score).interval())
    assert by_user > 3 * by_row


def test_one_class_is_nan_not_a_number() -> None:
    boot = UserBootstrap(np.arange(4), n_draws=20)
    assert np.isnan(boot.auc(np.zeros(4), np.arange(4.0)).value)
    assert all(np.isnan(boot.auc(np.zeros(4), np.arange(4.0)).interval()))


def test_means_stay_paired() -> None:
    one, two = Resampled(1.0, np.array([0.0, 2.0])), Resampled(3.0, np.array([4.0, 6.0]))
    assert mean_of([one, two]).draws.tolist() == [2.0, 4.0]
    assert (two - one).draws.tolist() == [4.0, 4.0]

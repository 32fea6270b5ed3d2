"""A/A simulations reject as often as they say, and daily peeking at the confidence sequence is safe."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from core.arrays import Floats, Ints
from core.errors import ConfigError, DataError
from experiment.simulate import simulate_aa, simulate_peeking

LOW, HIGH = 0.0435, 0.0565  # three standard errors around .05 in 10,000 runs


def users(n: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    taste = rng.gamma(4.0, 0.25, n)
    exposures = rng.poisson(10, n) + 1.0
    clicks, before = rng.poisson(0.2 * exposures * taste).astype(float), rng.poisson(12 * taste).astype(float)
    return np.asarray(clicks, float), np.asarray(exposures, float), np.asarray(before, float)


def test_aa_readouts_reject_at_the_stated_rate() -> None:
    clicks, exposures, before = users(1000)
    for result in (
        simulate_aa(clicks, seed=1),
        simulate_aa(clicks, exposures, seed=2),
        simulate_aa(clicks, before=before, seed=3),
        simulate_aa((clicks > 2).astype(float), share=0.3, seed=4),
    ):
        assert len(result.p_values) == 10_000
        assert LOW < result.rejected < HIGH


def test_one_run_is_welchs_test() -> None:
    clicks, _, _ = users(200)
    result = simulate_aa(clicks, n_runs=3, seed=5)
    chosen = np.random.default_rng(5).random((200, 3), dtype=np.float32) < 0.5
    for run in range(3):
        expected = stats.ttest_ind(clicks[chosen[:, run]], clicks[~chosen[:, run]], equal_var=False).pvalue
        assert result.p_values[run] == pytest.approx(expected, abs=1e-9)


def test_cuped_gives_power() -> None:
    clicks, _, before = users(1000)
    plain = simulate_aa(clicks, lift=0.08, n_runs=2000).rejected
    assert simulate_aa(clicks, before=before, lift=0.08, n_runs=2000).rejected > plain + 0.05


def test_daily_peeking_at_the_confidence_sequence_is_safe_and_at_the_t_test_is_not() -> None:
    rng = np.random.default_rng(11)
    n_users, days = 6000, 30
    rate = rng.beta(1, 6, n_users)  # users come back on many days
    day, unit = np.nonzero(rng.random((days, n_users)) < rate)
    values = rng.poisson(1.5 * rng.gamma(2, 0.5, n_users)[unit]).astype(float)
    looks = np.arange(days)
    ever = simulate_peeking(day, values, unit, looks=looks, n_runs=500, window=5, seed=3)
    assert ever.mean() <= 0.05
    naive = _peek_by_t_test(day, values, unit, looks, n_runs=100)
    assert naive > 0.1


def _peek_by_t_test(day: Ints, values: Floats, unit: Ints, looks: Ints, n_runs: int) -> float:
    rng = np.random.default_rng(4)
    n = int(unit.max()) + 1
    first = np.full(n, 10**6)
    np.minimum.at(first, unit, day)
    total = np.bincount(unit, values * (day < first[unit] + 5), n)
    rejected = 0
    for _ in range(n_runs):
        treated = rng.random(n) < 0.5
        for look in looks:
            seen = first + 4 <= look
            a, b = total[seen & ~treated], total[seen & treated]
            if min(len(a), len(b)) >= 500 and stats.ttest_ind(a, b, equal_var=False).pvalue < 0.05:
                rejected += 1
                break
    return rejected / n_runs


def test_what_cannot_be_simulated_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="at least 10"):
        simulate_aa(np.ones(3))
    with pytest.raises(ConfigError, match="covariate goes with a mean"):
        simulate_aa(np.ones(20), np.ones(20), before=np.ones(20))

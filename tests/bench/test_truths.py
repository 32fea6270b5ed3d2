"""The worlds of known truth hold the truth they claim."""

import io

import numpy as np
import pytest

from bench.harness import Bench
from bench.ranker_truth import FIGURES, judge_cvr, paired
from bench.truths import behaviours, correlated, funnel, scenarios


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_labels_correlate_as_their_weights_do(p: float) -> None:
    world = correlated(20_000, p, np.random.default_rng(0), noise=0.0)
    a, b = world.truth["first"], world.truth["second"]
    correlation = np.corrcoef(a, b)[0, 1]
    assert np.array_equal(world.log["first"], a)
    assert (p == 1) == bool(np.allclose(a, b))
    assert correlation <= p + 0.03  # the sines bend the labels away from p, never past it
    assert correlation >= 0.5 * p - 0.03


@pytest.mark.parametrize("hidden", [0.0, 1.2])
def test_funnel_knows_what_would_be_bought(hidden: float) -> None:
    world = funnel(200_000, hidden, np.random.default_rng(0))
    truth, would, click = world.truth["buy_if_clicked"], world.truth["would_buy"], world.log["click"]
    assert would.mean() == pytest.approx(truth.mean(), abs=0.002)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 1.0)):
        rows = (truth >= low) & (truth < high)
        assert would[rows].mean() == pytest.approx(truth[rows].mean(), abs=0.01)
    assert np.array_equal(world.log["buy"], click * would)
    gap = would[click > 0].mean() - truth[click > 0].mean()  # what no feature explains
    assert gap == pytest.approx(0, abs=0.01) if hidden == 0 else gap > 0.1


def test_a_perfect_cvr_is_judged_perfect() -> None:
    world = funnel(20_000, 0.0, np.random.default_rng(0))
    rows = np.arange(20_000)
    calibration, error, everywhere, _ = judge_cvr(world.truth["buy_if_clicked"], world, rows)
    assert (calibration, error) == (1.0, 0.0)
    assert everywhere > judge_cvr(np.random.default_rng(1).random(20_000), world, rows)[2]


def test_scenarios_and_behaviours_draw_from_their_truth() -> None:
    rng = np.random.default_rng(0)
    for world, tasks in ((scenarios(50_000, rng), ("click", "buy")), (behaviours(5_000, rng), ("click",))):
        for task in tasks:
            assert world.log[task].mean() == pytest.approx(world.truth[task].mean(), abs=0.02)
    assert scenarios(50_000, rng).log["scenario"].mean() == pytest.approx(0.2, abs=0.01)


def test_paired_interval_by_hand() -> None:
    low, middle, high = paired([1.0, 2.0, 4.0], [0.0, 0.0, 1.0])
    half = 4.302653 * 1.0 / np.sqrt(3)  # differences 1, 2, 3: mean 2, standard deviation 1
    assert (low, middle, high) == pytest.approx((2 - half, 2, 2 + half), abs=1e-5)


def test_bench_owes_its_figures() -> None:
    out = io.StringIO()
    bench = Bench("ranker_truth", FIGURES, argv=["--quick"], out=out)
    assert set(bench.finish()["figures"]) == set(FIGURES)  # type: ignore[call-overload]  # a JSON object

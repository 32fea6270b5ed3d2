"""Every worked statistical example, to 1e-6, through the code that readouts use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.arrays import Floats
from experiment.bayes import posterior
from experiment.delta import Relative, relative_effect
from experiment.effects import Arm
from experiment.metrics import Mean, Ratio
from experiment.multiplicity import METHODS
from experiment.power import units_needed, units_needed_for_shares
from experiment.sequential import always_valid_p, half_width
from experiment.srm import srm_p_value


def close(found: float, expected: float) -> None:
    assert found == pytest.approx(expected, abs=1e-6, rel=0)


def arm_of_mean(x: dict[str, float], name: str = "sum_x") -> Arm:
    n = int(x["n"])
    variance = (x["sum_squares"] - x["sum"] ** 2 / n) / (n - 1)
    return Arm.from_moments(n, [name], np.array([x["sum"] / n]), np.array([[variance]]))


def arm_of_share(x: list[int]) -> Arm:
    """The examples take p (1 - p) as the variance of a share."""
    p = x[0] / x[1]
    return Arm.from_moments(x[1], ["sum_x"], np.array([p]), np.array([[p * (1 - p)]]))


def arm_of_ratio(x: dict[str, Any], n: int, products: dict[tuple[str, str], float]) -> Arm:
    names = [name for name in ("m_post", "d_post", "m_pre", "d_pre") if name in x]
    sums = np.array([x[name]["sum"] for name in names])
    covariance: Floats = np.zeros((len(names), len(names)))
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            product = x[a]["sum_squares"] if a == b else products.get((a, b), products.get((b, a), np.nan))
            covariance[i, j] = (product - sums[i] * sums[j] / n) / (n - 1)
    columns = {"m_post": "sum_m", "d_post": "sum_d", "m_pre": "pre_sum_m", "d_pre": "pre_sum_d"}
    return Arm.from_moments(n, [columns[name] for name in names], sums / n, covariance)


def same_relative(found: Relative, output: dict[str, Any]) -> None:
    close(found.value, output["expected"])
    close(found.se, output["uplift"]["stddev"])
    close(found.low, output["ci"][0])
    close(found.high, output["ci"][1])
    close(found.p_value, output["pValue"])


def test_welch_mean(golden_ab: dict[str, Any]) -> None:
    case = golden_ab["welch_mean_absolute"]
    a, b = arm_of_mean(case["input"]["a"]), arm_of_mean(case["input"]["b"])
    effect = Mean(name="x", task="x", method="delta").analyze(a, b)
    close(effect.diff, case["output"]["expected"])
    close(effect.diff_low, case["output"]["ci"][0])
    close(effect.diff_high, case["output"]["ci"][1])
    close(effect.se, case["output"]["uplift"]["stddev"])
    close(effect.p_value, case["output"]["pValue"])
    relative = golden_ab["welch_mean_relative"]["output"]
    close(effect.rel_diff, relative["expected"])
    close(effect.rel_diff_low, relative["ci"][0])
    close(effect.rel_diff_high, relative["ci"][1])
    same_relative(relative_effect(a.aggregates(["sum_x"]), b.aggregates(["sum_x"]), "sum_x"), relative)


def test_proportion_relative(golden_ab: dict[str, Any]) -> None:
    case = golden_ab["proportion_relative"]
    a, b = (arm_of_share(case["input"][side]).aggregates(["sum_x"]) for side in "ab")
    same_relative(relative_effect(a, b, "sum_x"), case["output"])


@pytest.mark.parametrize(
    "name", ["sequential_prop_relative_tuning5000", "sequential_mean_relative_tuning1000", "sequential_mean_absolute_tuning1000"]
)
def test_sequential(golden_ab: dict[str, Any], name: str) -> None:
    case = golden_ab[name]
    read = arm_of_share if isinstance(case["input"]["a"], list) else arm_of_mean
    a, b, tuning = read(case["input"]["a"]), read(case["input"]["b"]), case["input"]["tuning"]
    effect = Mean(name="x", task="x", method="delta").analyze(a, b)
    estimate, se = (effect.rel_diff, effect.rel_se) if "relative" in name else (effect.diff, effect.se)
    half = float(half_width(se**2, a.n + b.n, tuning=tuning))
    close(estimate, case["output"]["expected"])
    close(se, case["output"]["uplift"]["stddev"])
    close(estimate - half, case["output"]["ci"][0])
    close(estimate + half, case["output"]["ci"][1])
    p_value = always_valid_p(estimate, se**2, a.n + b.n, tuning=tuning)
    assert p_value == pytest.approx(case["output"]["pValue"], rel=1e-6, abs=0)


def test_delta_ratio(golden_ab: dict[str, Any]) -> None:
    case = golden_ab["delta_ratio_absolute"]
    a, b = (
        arm_of_ratio(case["input"][side], case["input"]["n"], {("m_post", "d_post"): case["input"]["cross"][i]})
        for i, side in enumerate("ab")
    )
    effect = Ratio(name="r", numerator="m", denominator="d", method="delta").analyze(a, b)
    close(effect.diff, case["output"]["expected"])
    close(effect.diff_low, case["output"]["ci"][0])
    close(effect.diff_high, case["output"]["ci"][1])
    close(effect.se, case["output"]["uplift"]["stddev"])
    close(effect.p_value, case["output"]["pValue"])
    relative = golden_ab["delta_ratio_relative"]["output"]
    control, treatment = (arm.aggregates(["sum_m", "sum_d"]) for arm in (a, b))
    same_relative(relative_effect(control, treatment, "sum_m", "sum_d"), relative)


def test_cuped_ratio(golden_ab: dict[str, Any]) -> None:
    case = golden_ab["cuped_ratio_relative"]
    arms = []
    for side in "ab":
        x = case["input"][side]
        products = {}
        for name, value in x["cross"].items():
            first, second = name.removesuffix("_sum_of_products").replace("_m_", " m_").replace("_d_", " d_").split()
            products[first, second] = value
        arms.append(arm_of_ratio(x, case["input"]["n"], products))
    effect = Ratio(name="r", numerator="m", denominator="d", method="delta", cuped=True).analyze(*arms)
    close(effect.rel_diff, case["output"]["expected"])
    close(effect.rel_se, case["output"]["uplift"]["stddev"])
    close(effect.rel_diff_low, case["output"]["ci"][0])
    names = ["sum_m", "sum_d", "pre_sum_m", "pre_sum_d"]
    control, treatment = (arm.aggregates(names) for arm in arms)
    same_relative(relative_effect(control, treatment, "sum_m", "sum_d", "pre_sum_m", "pre_sum_d"), case["output"])


def test_bayes(golden_ab: dict[str, Any]) -> None:
    case = golden_ab["bayes_binomial_flat"]
    a, b = (arm_of_share(case["input"][side]).aggregates(["sum_x"]) for side in "ab")
    relative = relative_effect(a, b, "sum_x")
    answer = posterior(relative.value, relative.se)
    close(answer.mean, case["output"]["expected"])
    close(answer.low, case["output"]["ci"][0])
    close(answer.high, case["output"]["ci"][1])
    close(answer.std, case["output"]["uplift"]["stddev"])
    close(answer.chance, case["output"]["chanceToWin"])
    close(answer.risk_control, case["output"]["risk"][0])
    close(answer.risk_treatment, case["output"]["risk"][1])


def test_sample_ratio(golden_ab: dict[str, Any]) -> None:
    for case in golden_ab["srm_chi2"]:
        names = [str(i) for i in range(len(case["counts"]))]
        counts, weights = (dict(zip(names, case[field], strict=True)) for field in ("counts", "weights"))
        assert srm_p_value(counts, weights) == pytest.approx(case["p"], rel=1e-6, abs=1e-9)


def test_multiple_testing(golden_ab: dict[str, Any]) -> None:
    for method, case in golden_ab["multiple_testing"].items():
        adjusted = METHODS[method](np.array(case["p"]))
        np.testing.assert_allclose(adjusted, case["adj"], atol=1e-6, err_msg=method)
        assert (adjusted < 0.05).tolist() == case["reject"], method


def test_power(golden_ab: dict[str, Any]) -> None:
    case = golden_ab["power"]  # these numbers of units were solved for to about 2e-6 themselves
    assert units_needed(0.2, 1.0) == pytest.approx(case["ttest_d02_power80_n"], rel=1e-8)
    assert units_needed_for_shares(0.10, 0.11) == pytest.approx(case["prop_10_11_n"], rel=1e-8)


def test_clusters_widen_the_interval(golden_ab: dict[str, Any]) -> None:
    """Clicks of one user go together: the standard error per request is 1.64 times too small."""
    case = golden_ab["clustered"]
    rng, n = np.random.default_rng(42), 2000
    user = np.repeat(np.arange(n), rng.integers(1, 30, n))
    rate = rng.beta(1, 9, n)
    click = rng.binomial(1, rate[user])
    clicks, exposures = np.bincount(user, click, n), np.bincount(user, minlength=n).astype(np.float64)
    columns = {"sum_click": clicks, "sum_exposures": exposures}
    arms = [Arm({name: np.asarray(column[side::2], float) for name, column in columns.items()}) for side in (0, 1)]
    effect = Ratio(name="ctr", numerator="click").analyze(arms[0], arms[1])
    close(effect.control, case["ctr"][0])
    close(effect.treatment, case["ctr"][1])
    close(effect.se, case["se_delta"])
    close(effect.se / case["se_naive"], case["ratio"])

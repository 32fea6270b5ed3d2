"""The monotone network: its formula by hand, no negative weight gets in, any context keeps it monotone, it can be concave."""

from __future__ import annotations

import numpy as np
import pytest

from core.arrays import average_ranks
from core.errors import ArtefactError, DataError
from core.scores import ScoreTable
from fusion.learned.fit import learn
from fusion.learned.inputs import Inputs
from fusion.learned.network import POSITIVE, MonotoneNetwork, two_sided
from tests.fusion.learned.made import GAINS, LOG, LOG_SUM, TASKS, made


def by_hand() -> tuple[Inputs, dict[str, np.ndarray]]:
    """One task of expected seconds, two units, two mixed units, one context name."""
    inputs = Inputs(("watch_s",), (1,), (False,), ("hour",))
    one, two = np.ones(1), np.ones((1, 2))
    arrays = {"slope": two, "lift": two, "shift": 0 * two, "skip": one, "mean": 0 * one, "scale": one, "gate_base": 0 * one}
    arrays |= {"mix": two, "out": np.ones(2), "mix_shift": np.zeros(2), "gate": np.ones((1, 1)), "bend": np.zeros((1, 2))}
    return inputs, {**arrays, "context_mean": 0 * one, "context_scale": one}


def test_its_formula_by_hand() -> None:
    """x = log1p(e - 1) = 1; the units give phi(1) - phi(-1) = 1, so h = gate * 2 with gate = phi(s); then h + h."""
    inputs, arrays = by_hand()
    table = ScoreTable(("watch_s",), np.array([[np.e - 1]]))
    for hour, gate in ((0.0, 0.5), (1.0, (1 + np.sqrt(2)) / 2)):
        final = MonotoneNetwork(inputs, arrays).fuse(table, {"hour": hour}).final
        np.testing.assert_allclose(final, [4 * gate], rtol=1e-12)


def test_half_of_the_units_are_convex_and_half_concave() -> None:
    z = np.linspace(-3, 3, 61)
    convex, concave = (np.array([two_sided(float(v), side) for v in z]) for side in (True, False))
    assert (np.diff(convex, n=2) > 0).all()
    assert (np.diff(concave, n=2) < 0).all()
    np.testing.assert_allclose(concave, -convex[::-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", POSITIVE)
def test_a_negative_weight_is_refused(name: str) -> None:
    inputs, arrays = by_hand()
    with pytest.raises(ArtefactError, match=f"{name} holds a negative weight"):
        MonotoneNetwork(inputs, {**arrays, name: -arrays[name] - 1e-9})


def test_misshapen_arrays_are_refused() -> None:
    inputs, arrays = by_hand()
    for name, wrong in (("mix", np.ones((2, 2))), ("shift", np.full((1, 2), np.nan)), ("bend", np.ones((1, 3)))):
        with pytest.raises(ArtefactError, match=name):
            MonotoneNetwork(inputs, {**arrays, name: wrong})
    with pytest.raises(ArtefactError, match="needs the arrays"):
        MonotoneNetwork(inputs, {"slope": np.ones((1, 2))})


def test_whatever_the_context_a_higher_score_never_lowers_the_final() -> None:
    """Weights far larger than learning makes them, contexts far outside what was seen."""
    rng = np.random.default_rng(0)
    base = made("monotone_context").strategy
    arrays = {
        name: value + (np.abs if name in POSITIVE else np.asarray)(5 * rng.normal(size=value.shape))
        for name, value in base.arrays().items()
    }
    strategy = MonotoneNetwork(base.inputs, arrays)
    x = rng.random((400, 3))
    for column, sign in enumerate(base.inputs.signs):
        raised = x.copy()
        raised[:, column] += rng.random(400) * (1 - x[:, column])
        for hour in (-1e4, -3.0, 0.0, 7.5, 1e4):
            s = np.array([[hour]])
            change = strategy.values(raised, s) - strategy.values(x, s)
            assert (sign * change >= -1e-9 * np.abs(strategy.values(x, s))).all()


def test_the_context_matters_and_must_be_there() -> None:
    strategy = made("monotone_context").strategy
    table = ScoreTable(TASKS.names, np.random.default_rng(1).random((9, 3)))
    early, late = (strategy.fuse(table, {"hour": hour}).final for hour in (1, 22))
    assert not np.allclose(early, late)
    for context in ({}, {"hour": "noon"}, {"hour": float("nan")}):
        with pytest.raises(DataError, match="context 'hour'"):
            strategy.fuse(table, context)


def test_it_learns_a_log_sum_from_its_teacher() -> None:
    student = learn(
        "monotone", LOG, None, tasks=TASKS, gains=GAINS, teachers=[LOG_SUM], max_rounds=6, seed=0, progress=False
    )  # fmt: skip
    table = ScoreTable(TASKS.names, np.stack([LOG[f"score_{t}"] for t in TASKS.names], axis=1))
    ranks = [average_ranks(s.fuse(table, {}).final) for s in (LOG_SUM, student.strategy)]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.99

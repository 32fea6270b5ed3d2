"""Lists hold the action's own part of what pages show; weights of allowed signs are the nearest in the candidates' spread."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from core.arrays import AnyArray, Floats
from core.errors import DataError
from fusion.policy.learner.least_squares import least_squares
from fusion.policy.learner.lists import lists, within
from fusion.policy.networks import Direction
from fusion.policy.transitions import Transitions

NEED = np.array([[1.0, 0.0, 0.3], [0.0, 1.0, 0.3]])  # what users of two kinds make of an item's terms


def table(n: int = 3000, n_items: int = 12, k: int = 3) -> Transitions:
    """Pages of three of twelve items, one a session; a page pays what its items' terms are worth, and more where candidates are
    better, whatever is shown. The second and third term go together."""
    rng = np.random.default_rng(4)
    kind = rng.integers(0, 2, n)
    luck = rng.normal(size=n)
    scores = rng.normal(size=(n, n_items, 3)) + luck[:, None, None]
    scores[..., 2] = 0.8 * scores[..., 1] + 0.6 * scores[..., 2]
    action = rng.uniform(-1, 1, (n, 3))
    final = (scores @ ((action + 1) / 2)[:, :, None])[..., 0]
    slate = np.argsort(-final, 1)[:, :k]
    shown = np.take_along_axis(scores, slate[..., None], 1).mean(1)
    reward = (NEED[kind] * (shown - luck[:, None])).sum(1) + 5 * luck + 0.3 * rng.normal(size=n)
    obs = np.column_stack([kind == 0, kind == 1, luck]).astype(float)
    columns: dict[str, Any] = {"session": np.arange(n), "step": np.zeros(n, int), "action": action, "reward": reward, "obs": obs}
    columns |= {"next_obs": obs, "terminated": np.ones(n, bool), "truncated": np.zeros(n, bool), "slate": slate}
    columns |= {"candidates": np.tile(np.arange(n_items), (n, 1)), "candidate_scores": scores.reshape(n, -1)}
    names: dict[str, Any] = {
        "obs_names": ["kind_0", "kind_1", "luck"],
        "param_names": ["a", "b", "c"],
        "task_names": ["a", "b", "c"],
    }
    return Transitions.from_log(columns, low=np.zeros(3), high=np.ones(3), **names)


def as_is(scores: AnyArray) -> AnyArray:
    return scores


def test_shift_is_what_the_action_did_and_not_how_good_the_candidates_were() -> None:
    rows = table()
    assert rows.candidate_scores is not None
    assert rows.slate is not None
    found = lists(rows, as_is, n_others=40)
    shift = found.shift * found.scale
    luck = np.asarray(rows.candidate_scores).mean((1, 2))
    shown = np.take_along_axis(rows.candidate_scores, rows.slate[..., None], 1).mean(1)
    assert np.corrcoef(shown[:, 0], luck)[0, 1] > 0.8
    assert abs(np.corrcoef(shift[:, 0], luck)[0, 1]) < 0.06
    assert np.corrcoef(shift[:, 0], rows.action[:, 0])[0, 1] > 0.5, "more weight on a term shows more of it"
    away = rows.candidate_scores - rows.candidate_scores.mean(1, keepdims=True)
    spread = np.einsum("nip,niq->pq", away, away) / away.shape[0] / away.shape[1]
    assert found.spread * np.outer(found.scale, found.scale) == pytest.approx(spread, rel=1e-4)


def test_the_scale_of_a_term_changes_nothing_but_itself() -> None:
    rows, factor = table(400), np.array([1.0, 10.0, 0.1])
    plain = lists(rows, as_is)
    other = lists(replace(rows, high=(rows.high / factor).astype(np.float32)), lambda scores: scores * factor)
    assert other.scale == pytest.approx(plain.scale * factor, rel=1e-4)
    assert other.shift == pytest.approx(plain.shift, rel=1e-3, abs=1e-3)


def test_policies_with_lists_come_nearer_to_what_users_want() -> None:
    rows = table()
    settings: dict[str, Any] = {"gate": [0, 1], "ridge_gate": 30.0, "ridge_common": 10.0, "ridge_list": 30.0, "later": 1.0}
    seen, blind = least_squares(rows, terms=as_is, **settings), least_squares(rows, **settings)
    regret = [NEED.sum() - worth(net, NEED) for net in (seen, blind)]
    assert regret[0] < 0.5 * regret[1]
    ratio = weights(seen) / weights(seen).max(1, keepdims=True)
    assert ratio[0, 1] < 0.25, "users of kind 0 do not care for the second term"
    assert ratio[1, 0] < 0.25


def weights(net: Direction) -> Floats:
    """Weights for users of each kind, `[2, 3]`."""
    found: Floats = (net.act(torch.eye(2, 3)).numpy() + 1) / 2
    return found


def worth(net: Direction, need: Floats) -> float:
    """Mean cosine, in the terms' spread, between what is chosen for and what is needed, times what is needed."""
    spread = np.array([[1.0, 0, 0], [0, 1.0, 0.8], [0, 0.8, 1.0]])
    chosen = weights(net)
    length = [np.sqrt(np.einsum("kp,pq,kq->k", x, spread, x)) for x in (chosen, need)]
    cosine = np.einsum("kp,pq,kq->k", chosen, spread, need) / length[0] / length[1]
    return float((cosine * need.sum(1)).sum())


def test_a_forbidden_weights_part_goes_to_what_goes_with_it() -> None:
    spread = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    low, high = np.array([0.0, 0.0, -1.0]), np.array([1.0, 1.0, 0.0])
    assert within(np.array([-0.5, 1.0, -0.3]), spread, low, high) == pytest.approx([0.0, 0.6, -0.3], abs=1e-6)
    assert within(np.array([0.5, 1.0, 0.3]), spread, low, high) == pytest.approx([0.5, 1.0, 0.0], abs=1e-6)


def test_logs_without_candidates_are_refused() -> None:
    rows = table(60)
    with pytest.raises(DataError, match="lists need every candidate's scores"):
        least_squares(replace(rows, candidate_scores=None), gate=[0, 1], terms=as_is)
    broken = np.array(rows.candidate_scores)
    broken[3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        lists(replace(rows, candidate_scores=broken), as_is)

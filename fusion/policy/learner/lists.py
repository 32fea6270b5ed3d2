"""The lists that pages showed, in the numbers that weights multiply, beside those that the log's other actions would have shown.

Pages with better candidates show better lists whatever the weights, to users who stay for other reasons. The difference between
a page's list and the lists of other logged actions on the same candidates is what the action itself did.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import lsq_linear

from core.arrays import AnyArray, Floats
from core.errors import DataError
from fusion.policy.transitions import Transitions

Terms = Callable[[AnyArray], AnyArray]  # scores [n, N, n_tasks] -> what each weight multiplies [n, N, n_params]
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of a log.

    Attributes:
        shift: `[n, n_params]`, mean terms of the shown items, less their mean over the lists of other logged actions.
        spread: `[n_params, n_params]`, covariance of the terms of a page's candidates, the mean over pages.
        scale: `[n_params]`, mean size of a term; shift and spread are in multiples of it.
    """

    shift: Floats
    spread: Floats
    scale: Floats


def lists(table: Transitions, terms: Terms, *, n_others: int = 10, seed: int = 0) -> Lists:
    """Look at every page's candidates.

    Args:
        terms: What the weights multiply; the final score is their sum.
        n_others: So many of the log's actions, the same for all pages, stand for what else might have been done. Exact where
            the exploration does not depend on the state.

    Raises:
        DataError: The log lacks its candidates' scores, or some are not finite.
    """
    if table.candidate_scores is None or table.slate is None:
        raise DataError("lists need every candidate's scores and the slate in the log; log them where a bucket explores")
    n, p, k = len(table), table.n_params, table.slate.shape[1]
    weights = (table.low + (np.asarray(table.action) + 1) * 0.5 * (table.high - table.low)).astype(np.float32)  # (n, P)
    others = torch.from_numpy(weights[np.random.default_rng(seed).integers(0, n, n_others)])  # (m, P)
    shift, spread, size = np.empty((n, p)), np.zeros((p, p)), np.zeros(p)
    for start in range(0, n, _CHUNK):
        rows = slice(start, start + _CHUNK)
        x = torch.from_numpy(np.asarray(terms(table.candidate_scores[rows]), np.float32))  # (c, N, P)
        own = _shown(x, torch.from_numpy(weights[rows])[:, None], k)[:, 0]  # (c, P)
        shift[rows] = (own - _shown(x, others[None].expand(len(x), -1, -1), k).mean(1)).double().numpy()
        away = (x - x.mean(1, keepdim=True)).flatten(0, 1).double()
        spread += (away.T @ away).numpy() / x.shape[1]
        size += x.abs().mean(1).double().sum(0).numpy()
    if not np.isfinite(shift).all():
        raise DataError("some candidates' scores are not finite; leave such pages out of the log")
    scale = np.maximum(size / n, 1e-12)
    return Lists(shift / scale, spread / n / np.outer(scale, scale), scale)


def within(effect: Floats, spread: Floats, low: AnyArray, high: AnyArray) -> Floats:
    """The weights of the allowed signs `[n_params]` that choose nearly what `effect` would: nearest in the candidates' spread.

    A forbidden weight is not just cut: its part goes to the terms that go with it.

    >>> within(np.array([1.0, -0.5]), np.array([[1.0, 0.8], [0.8, 1.0]]), np.zeros(2), np.ones(2)).round(3).tolist()
    [0.6, 0.0]
    """
    root = np.linalg.cholesky(spread + 1e-9 * np.diag(np.diag(spread) + 1e-9)).T
    bounds = (np.where(np.asarray(low) >= 0, 0.0, -np.inf), np.where(np.asarray(high) <= 0, 0.0, np.inf))
    found: Floats = lsq_linear(root, root @ effect, bounds, method="bvls").x
    return found


def _shown(x: torch.Tensor, weights: torch.Tensor, k: int) -> torch.Tensor:
    """Mean terms `[c, m, P]` of the lists of `k` that weights `[c, m, P]` choose from `[c, N, P]`."""
    rows = torch.matmul(weights, x.transpose(1, 2)).topk(k, -1).indices  # (c, m, k)
    at = rows.flatten(1)[..., None].expand(-1, -1, x.shape[2])  # (c, m * k, P)
    return x.gather(1, at).view(*rows.shape, -1).mean(2)

"""What each parameter of a policy's formula multiplies, where the formula is a sum of such products."""

from __future__ import annotations

import numpy as np

from core.arrays import AnyArray, Floats
from fusion.ope.features import formula_fuse
from fusion.policy.learner.lists import Terms
from fusion.policy.strategy import PolicyStrategy
from fusion.policy.transitions import Transitions


def terms_of(strategy: PolicyStrategy, rows: Transitions) -> Terms | None:
    """Candidate scores `[n, N, n_tasks]` to terms `[n, N, n_params]`, by which the log's weights rank as the strategy did.

    None where the log has no candidates, or the formula reads what is not stored with them or is not linear in its parameters.
    """
    scores, formula = rows.candidate_scores, strategy.formula
    if scores is None or rows.slate is None or formula.context or not set(formula.tasks) <= set(rows.task_names):
        return None
    fuse = formula_fuse(formula, rows.task_names, strategy.low, strategy.high, strategy.calibration)
    low, high = rows.low.astype(float), rows.high.astype(float)  # a world's log counts its weights in other units
    eye = np.eye(len(low))

    def final(weights: Floats, scores: AnyArray) -> Floats:
        action = 2 * (weights - low) / (high - low) - 1
        found: Floats = fuse(np.broadcast_to(action, (len(scores), len(action))), scores)
        return found

    def terms(scores: AnyArray) -> AnyArray:
        return np.stack([final(weights, scores) for weights in eye], -1)

    some = np.asarray(scores[:20])
    x = terms(some)
    for weights in np.random.default_rng(0).uniform(low, high, (3, len(eye))):
        wanted = final(weights, some)
        if not np.allclose(x @ weights, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max(initial=0)):
            return None
    return terms

"""A table's reward weights from what its users did next, instead of by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from core.errors import ConfigError, DataError
from fusion.policy.reward import FittedWeights, fit_weights, future
from fusion.policy.transitions import Transitions


def fitted(table: Transitions, group: str, *, n_next: int = 1, seed: int = 0) -> tuple[Transitions, FittedWeights]:
    """The table with weights w_i under which a session's reward stands for `group` over its user's next `n_next` sessions.

    Sessions of one user are compared with each other (`fit_weights`). Where users have few sessions this takes some of the
    outcome's own group away: a session that is one's outcome is also one of the sessions it is compared with.

    Raises:
        ConfigError: The reward has no such group, or only this one.
        DataError: The table does not say when pages were shown, nobody came back often enough, or no group goes with more.
    """
    if group not in table.group_names:
        raise ConfigError(f"the reward has no group {group!r} to fit its weights to; groups are {', '.join(table.group_names)}")
    if len(table.group_names) < 2:
        raise ConfigError(f"{group!r} is the reward's only group; weights are fitted between two or more")
    if table.time_ms is None:
        raise DataError("the transition table has no column 'time_ms', so nobody knows which session came next; write it again")
    starts = table.starts
    user, totals = np.asarray(table.user[starts]), np.add.reduceat(np.asarray(table.rewards, float), starts)  # (S,), (S, G)
    outcome = future(user, np.asarray(table.time_ms[starts]), totals[:, table.group_names.index(group)], n_next=n_next)
    known = np.isfinite(outcome)
    if not known.any():
        raise DataError(f"none of {len(starts)} sessions is followed by {n_next} more of its user; log the same users for longer")
    found = fit_weights(totals[known], outcome[known], user[known], names=table.group_names, seed=seed)
    reward = (np.asarray(table.rewards, float) @ found.weights).astype(np.float32)
    return replace(table, reward=reward, group_weights=found.weights), found

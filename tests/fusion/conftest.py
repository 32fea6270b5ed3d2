"""A small synthetic log with known structure, shared by the fusion tests."""

from __future__ import annotations

import numpy as np
import pytest

from core.logs import LoggedDataset

TASKS = ("click", "like", "hate")
collect_ignore = ["ranx_answers.py"]  # importing ranx compiles for 45 s; it is run as a process of its own


def make_log(n: int = 3000, n_users: int = 120, seed: int = 0) -> LoggedDataset:
    """Users with skewed activity, short requests, scores that carry part of what drives the labels."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0, 1, n_users)
    user = rng.choice(n_users, n, p=activity / activity.sum())
    taste = rng.normal(size=(n, 3))
    columns: dict[str, np.ndarray] = {
        "user_id": np.array([f"u{u}" for u in user], dtype=object),
        "request_id": np.array([f"r{u}-{r}" for u, r in zip(user, rng.integers(0, 5, n), strict=True)], dtype=object),
        "hour": rng.integers(0, 24, n).astype(float),
        "date": rng.integers(0, 4, n),
    }
    for i, (task, base) in enumerate(zip(TASKS, (0.0, -1.5, -3.0), strict=True)):
        p = 1 / (1 + np.exp(-(base + taste[:, i])))
        columns[task] = (rng.random(n) < p).astype(float)
        columns[f"score_{task}"] = 1 / (1 + np.exp(-(base + 0.7 * taste[:, i] + 0.5 * rng.normal(size=n))))
    return LoggedDataset(columns)


@pytest.fixture(scope="session")
def log() -> LoggedDataset:
    return make_log()

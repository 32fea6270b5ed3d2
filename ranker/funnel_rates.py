"""What a log says about each scenario's funnel: CTR, CTCVR, and by user UVCTR and UV_CTCVR (as AESM^2 reports them)."""

from __future__ import annotations

import numpy as np

from core.arrays import AnyArray
from core.errors import DataError
from core.logs import LoggedDataset


def funnel_rates(
    log: LoggedDataset, *, click: str = "click", buy: str = "buy", user: str = "user_id", scenario: str | None = None
) -> dict[str, dict[str, float]]:
    """Rates by scenario, and over all rows as `all`.

    ctr and ctcvr are clicks and purchases an impression, cvr purchases a click; uvctr and uv_ctcvr the shares of users
    seen who clicked and who bought at least once. What cannot be computed is NaN.

    Raises:
        DataError: A label is not observed in some row.

    >>> log = LoggedDataset({"user_id": np.array([1, 1, 2, 3]), "click": np.array([1, 1, 0, 1]), "buy": np.array([0, 1, 0, 0])})
    >>> {name: round(value, 3) for name, value in funnel_rates(log)["all"].items()}
    {'n': 4.0, 'ctr': 0.75, 'cvr': 0.333, 'ctcvr': 0.25, 'uvctr': 0.667, 'uv_ctcvr': 0.333}
    """
    for name in (click, buy):
        if np.isnan(np.asarray(log[name], float)).any():
            raise DataError(
                f"label {name!r} is not observed in some row; a funnel's rates need it in all, take the observed rows"
            )
    found = {"all": _rates(log, click, buy, user)}
    if scenario is not None:
        for value in np.unique(log[scenario]):
            found[str(value)] = _rates(log.take(log[scenario] == value), click, buy, user)
    return found


def _rates(log: LoggedDataset, click: str, buy: str, user: str) -> dict[str, float]:
    clicked, bought = np.asarray(log[click], float) > 0, np.asarray(log[buy], float) > 0
    n = len(log)
    users = len(np.unique(log[user]))
    return {
        "n": float(n),
        "ctr": _share(clicked.sum(), n),
        "cvr": _share((clicked & bought).sum(), clicked.sum()),
        "ctcvr": _share((clicked & bought).sum(), n),
        "uvctr": _share(_users(log[user], clicked), users),
        "uv_ctcvr": _share(_users(log[user], clicked & bought), users),
    }


def _users(user: AnyArray, rows: AnyArray) -> int:
    return len(np.unique(user[rows]))


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")

"""Settings that a formula linear in its weights profits from, by algorithm. Ours; the papers' are each algorithm's defaults.

Critics see the direction of the weights only (their scale changes no ranking), are linear in it, and aim at lambda-returns: a
page's effect on satisfaction, which no state shows, is then seen in the log instead of being lost after one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_LINEAR: Final[Mapping[str, Any]] = {
    "hidden": [32],
    "critic": "direction",
    "trace": 0.9,
    "trace_every": 200,
    "batch_size": 512,
    "tau": 0.003,
    "target_every": 1,
    "critic_lr": 5e-3,
}

OURS: Final[Mapping[str, Mapping[str, Any]]] = {
    "bc": {"hidden": [32], "batch_size": 512},
    "batchrl_mtf": {**_LINEAR, "rho": 0.3, "perturbation_lr": 1e-3},
    "unified_rl": {**_LINEAR, "actor_lr": 3e-3, "eta": 1.0, "lambda_": 0.5},
    "td3": {**_LINEAR, "actor_lr": 3e-3},
    "td3_bc": {**_LINEAR, "actor_lr": 3e-3, "q_scale": "spread", "alpha": 0.1},
    "cql_sac": {**_LINEAR, "actor_lr": 3e-3, "conservative": 0.1},
    "iql": {**_LINEAR, "actor_lr": 3e-3, "extraction": "gradient", "alpha": 10.0},
}

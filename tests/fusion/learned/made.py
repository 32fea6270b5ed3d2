"""Learned fusions of the small synthetic log, made once for all tests."""

from __future__ import annotations

from functools import cache
from typing import Any

from core.tasks import TaskSet, TaskSpec
from fusion.calibrate import fit
from fusion.formula import Formula
from fusion.learned.fit import Learned, learn
from fusion.strategy import FormulaStrategy
from tests.fusion.conftest import make_log

TASKS = TaskSet([TaskSpec("click"), TaskSpec("like"), TaskSpec("hate", goal="down")])
GAINS = {"click": 1.0, "like": 4.0}
LOG, VALID, FRESH = make_log(4000, seed=2), make_log(2000, seed=3), make_log(5000, seed=4)
CALIBRATION = fit(LOG, TASKS)
LOG_SUM = FormulaStrategy(Formula.parse("log(click + .05) + 2 * log(like + .2) - hate", tasks=TASKS.names), {})
SMALL = {"min_rows": 20}
QUICK = {"steps_a_round": 40, "batch": 512}
NAMES = ("lambdamart", "lambdamart_ndcg", "lambdamart_context", "monotone", "monotone_listwise", "monotone_context", "student")


@cache
def made(name: str) -> Learned:
    """One of NAMES, learned with few rounds."""
    kind, _, variant = name.partition("_")
    kind = "lambdamart" if kind == "student" else kind
    options: dict[str, Any] = {**(SMALL if kind == "lambdamart" else QUICK)}
    options |= {"ndcg": {"metric": "ndcg"}, "listwise": {"loss": "listwise"}}.get(variant, {})
    return learn(
        kind,
        LOG,
        VALID,
        tasks=TASKS,
        gains=GAINS,
        options=options,
        teachers=[LOG_SUM, made("monotone").strategy] if name == "student" else (),
        context=["hour"] if variant == "context" else (),
        calibration=CALIBRATION if variant == "" else None,
        max_rounds=5,
        seed=1,
        progress=False,
    )

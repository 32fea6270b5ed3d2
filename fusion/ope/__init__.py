"""Off-policy evaluation: what a policy would have got, from the log of another one."""

from fusion.ope.bandit import BANDIT, Decisions, Moments
from fusion.ope.episodes import Episodes
from fusion.ope.estimate import STATUSES, Estimate
from fusion.ope.evaluate import ESTIMATORS, Evaluator, Settings
from fusion.ope.features import ActionFeatures, SlateFeatures
from fusion.ope.fqe import LinearFqe
from fusion.ope.session import SESSION, Steps
from fusion.ope.slate import slate_weights
from fusion.ope.target import Target

__all__ = [
    "BANDIT",
    "ESTIMATORS",
    "SESSION",
    "STATUSES",
    "ActionFeatures",
    "Decisions",
    "Episodes",
    "Estimate",
    "Evaluator",
    "LinearFqe",
    "Moments",
    "Settings",
    "SlateFeatures",
    "Steps",
    "Target",
    "slate_weights",
]

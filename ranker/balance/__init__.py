"""How the tasks' losses become one gradient step; adding a way is a file and a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.balance.aggregators import MGDA, CAGrad, PCGrad, UPGrad
from ranker.balance.base import Balancer
from ranker.balance.decay import Decay
from ranker.balance.dwa import DWA
from ranker.balance.fixed import Fixed
from ranker.balance.gradnorm import GradNorm
from ranker.balance.pareto import Pareto
from ranker.balance.uncertainty import Uncertainty
from ranker.models.base import MultiTaskModel
from ranker.team import ALONE, Team

BALANCERS: Mapping[str, Callable[..., Balancer]] = {
    "fixed": Fixed,
    "decay": Decay,
    "uncertainty": Uncertainty,
    "dwa": DWA,
    "gradnorm": GradNorm,
    "mgda": MGDA,
    "pcgrad": PCGrad,
    "cagrad": CAGrad,
    "upgrad": UPGrad,
    "pareto": Pareto,
}

TOGETHER = ("uncertainty", "dwa", "gradnorm", "pareto")  # these compare the tasks' losses, so each batch must hold all tasks


def make(
    name: str, tasks: TaskSet, model: MultiTaskModel, options: Mapping[str, Any] | None = None, team: Team = ALONE
) -> Balancer:
    """Build a balancer by name, for the workers of `team`.

    Raises:
        ConfigError: The name or an option is unknown.
    """
    if name not in BALANCERS:
        raise ConfigError(f"unknown balance {name!r}; balances are {', '.join(BALANCERS)}")
    try:
        balancer = BALANCERS[name](tasks, model, **dict(options or {}))
    except TypeError as error:
        raise ConfigError(f"balance {name!r}, options {sorted(options or {})}: {str(error).split('.')[-1]}") from error
    balancer.team = team
    return balancer


__all__ = ["BALANCERS", "TOGETHER", "Balancer", "make"]

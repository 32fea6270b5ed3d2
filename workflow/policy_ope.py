"""A trained policy's off-policy estimate beside its truth: what the log it learned from says, and what the world gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fusion.ope import Settings, Target
from fusion.policy.networks import PolicyNet
from fusion.policy.report import Table
from fusion.policy.transitions import Transitions
from simulator.judge import Judged, interval
from workflow.ope import evaluator_of, source_of_world
from workflow.policy_world import Acting, Ground

ESTIMATOR: Final = "fqe"  # the one that `bench.ope` names beforehand
HEADERS: Final = ("policy", "status", "estimate", "low", "high", "truth", "truth low", "truth high", "reach")


def ope_table(
    rows: Transitions, ground: Ground, nets: Mapping[str, PolicyNet], judged: Mapping[str, Judged], *, exploration: str, seed: int
) -> Table:
    """Estimates from the log with their 95 % intervals beside the judged returns; a policy that the log cannot carry gets its
    status and no number.

    Args:
        rows: The log, with its candidates' scores.
        nets: Policies by name, acting without noise. judged: What each came to in the world.
        exploration: How the log's policy explored around hand-set weights.
    """
    source = source_of_world(rows, ground, exploration, "")
    evaluator = evaluator_of(source, Settings(seed=seed))
    lines: list[list[str | float | None]] = []
    for name, net in nets.items():
        found = evaluator.estimate(ESTIMATOR, Target(name, Acting(net)))
        truth = interval(judged[name].session_return)
        lines.append([name, found.status, found.value, found.low, found.high, truth.mean, truth.low, truth.high, found.reach])
    return Table(f"Off-policy estimate ({ESTIMATOR}, from the log it learned from) beside the truth", HEADERS, lines)

"""Three studies of the policy bench: what the data, the reward, and the lack of a constraint do to a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch

from bench.harness import Bench, Cell
from bench.policy_runs import Workbench, over_seeds
from core.arrays import Floats
from fusion.policy.learner.base import FusionLearner
from fusion.policy.learner.loop import Loop
from fusion.policy.learner.recipes import OURS
from fusion.policy.learner.trainer import configure, deployed
from fusion.policy.reward import Reward
from fusion.policy.transitions import Transitions
from workflow.policy_world import GATE

Settings = Mapping[str, Any]
EXPLORERS: Mapping[str, tuple[Settings, int]] = {  # the paper's algorithm, and ours; on so many of the pairs
    "batchrl_mtf": (OURS["batchrl_mtf"], 40),
    "least_squares": ({}, 12),
}
REWARDED: Mapping[str, Settings] = {"td3": OURS["td3"], "least_squares": {}}
REWARDS: Mapping[str, Mapping[str, float]] = {
    "as the world": {},
    "time x 3": {"stickiness": 3.0},
    "interactions x 3": {"activeness": 3.0},
}
PROMISED = ("td3", "td3_bc")
STOPS = (0.05, 0.25, 1.0)  # shares of all updates after which critics are asked


class _Log:
    """A log to be made when it is needed."""

    def __init__(self, bed: Workbench, seed: int, **options: Any) -> None:
        self.bed, self.seed, self.options = bed, seed, options

    def __call__(self) -> Transitions:
        return self.bed.log(self.seed, **self.options)


def data(bench: Bench, bed: Workbench) -> None:
    """Mixed exploration against the wide Gaussian alone as training data: equal sessions, a fresh pair of logs a seed."""
    rows: list[list[Cell]] = []
    for algorithm, (settings, n_pairs) in EXPLORERS.items():
        seeds = bed.plan.pair_seeds[:n_pairs]
        returns: dict[str, list[float]] = {"mixed": [], "random": []}
        for train_seed in seeds:
            for kind, found in returns.items():
                name = f"{algorithm} on {kind}"
                log = _Log(bed, train_seed, exploration=kind, n=bed.plan.study_sessions)
                made = bed.learned(name, algorithm, settings, train_seed, log, bed.plan.study_updates)
                found.append(float(bed.returns(f"{name}-{train_seed}", made, (500 + train_seed,))[0]))
            bench.say(f"[data] {algorithm}, log {train_seed}: " + ", ".join(f"{k} {v[-1]:.3f}" for k, v in returns.items()))
        mixed, wide = (np.array(found) for found in returns.values())
        gain = over_seeds(mixed - wide)
        rows.append([algorithm, len(seeds), float(mixed.mean()), float(wide.mean()), *gain])
        if algorithm == "batchrl_mtf":
            bench.figure("mixed_over_random_low", gain[1])
            study = bed.plan.study(seeds)
            bench.note("mixed_over_random_low", f"batchrl_mtf, {study}: {gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]")
    headers = ["learner", "pairs", "mixed", "random", "mixed - random", "low", "high"]
    bench.table(
        headers,
        rows,
        title=f"mixed or random: pairs of logs of {bed.plan.study_sessions:,} sessions, {bed.plan.study_updates:,} updates",
    )


def rewards(bench: Bench, bed: Workbench) -> None:
    """Policies that learned from a reward with three times the weight on time, or on interactions, against the world's own."""
    rows: list[list[Cell]] = []
    for algorithm, settings in REWARDED.items():
        found: dict[str, Floats] = {}
        for title, weights in REWARDS.items():
            name = f"{algorithm} {title}"
            each = []
            for train_seed, test_seed in bed.plan.pairs:
                log = _Log(bed, train_seed, reward=Reward(bed.ground.reward.groups, weights), n=bed.plan.study_sessions)
                made = bed.learned(name, algorithm, settings, train_seed, log, bed.plan.study_updates)
                judged = bed.judged(f"{name}-{train_seed}", made, test_seed)
                each.append([judged.session_return.mean(), judged.pages.mean(), judged.clicks_per_page])
            found[title] = np.array(each)  # (seeds, 3)
            bench.say(f"[rewards] {name}: {found[title].mean(0).round(3).tolist()}")
        own = found["as the world"]
        for title, values in found.items():
            gain, pages = (over_seeds((values - own)[:, column]) for column in (0, 1))
            rows.append([algorithm, title, *values.mean(0).tolist(), *gain, *pages])
    headers = ["learner", "reward", "return", "pages", "clicks a page", "gain", "low", "high", "pages gained", "low", "high"]
    bench.table(headers, rows, title=f"time or interactions: {bed.plan.study(bed.plan.train_seeds)}")


def promises(bench: Bench, bed: Workbench, paper: Mapping[str, Settings]) -> None:
    """What critics say a policy's sessions will bring, and what they bring, as training goes on."""
    table, rows = bed.log(bed.plan.train_seeds[0]), list[list[Cell]]()
    forms = {f"{name} (paper)": (name, paper[name]) for name in PROMISED}
    forms |= {name: (name, {**OURS[name], "gate": list(GATE)}) for name in PROMISED}
    for title, (algorithm, settings) in forms.items():
        n_updates = bed.plan.paper_updates if title.endswith("(paper)") else bed.plan.updates
        loop = Loop(cast(FusionLearner, configure(table, algorithm, settings, 0).build_learner()), table)
        for share in STOPS:
            loop.run(max(1, int(share * n_updates)) - loop.n_updates)
            promised, at_edge = _promise(loop, torch.from_numpy(np.array(table.obs[table.starts[:2000]])))
            truth = bed.discounted(deployed(loop.learner, loop.rows), bed.plan.test_seeds[0], loop.learner.net.settings["gamma"])
            rows.append([title, loop.n_updates, promised, truth, promised - truth, at_edge])
            bench.say(f"[promises] {title} after {loop.n_updates:,}: {promised:.3f}, came to {truth:.3f}")
    headers = ["learner", "updates", "promised", "came to", "too high by", "at the edge"]
    bench.table(headers, rows, title="promises: discounted return from a session's start")


def _promise(loop: Loop, obs: torch.Tensor) -> tuple[float, float]:
    """Mean value that the critics give the policy's own actions at these states, and the share of weights at a bound."""
    net = cast(Any, loop.learner.net)
    critics = net.policy.critics if hasattr(net.policy, "critics") else net.critics
    with torch.inference_mode():
        action = deployed(loop.learner, loop.rows).act(obs, torch.Generator().manual_seed(0))
        q = critics(loop.rows.standardise(obs), action[:, None])
    return float(q.mean()), float((action.abs() > 0.99).float().mean())

"""The simulator's observation in a policy's words, so a policy trained there is served with the state it knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.arrays import Ints
from fusion.policy.state import Feature, StateSpec
from simulator.observation import Observer
from simulator.world import World


def state_of(world: World, tasks: Sequence[str] | None = None) -> tuple[StateSpec, Ints]:
    """The state that `simulator.observation.Observer` shows, from user table, session context and scores.

    Args:
        tasks: What the served ranker scores; score features of other tasks are left out. All by default.

    Returns:
        The state, and its features' columns in the observation, `[n_obs]`.
    """
    scored = set(world.tasks.names if tasks is None else tasks)
    features = _features(world)
    names = Observer(world).names
    assert tuple(feature.name for feature in features) == names, "the observer shows something else"
    kept = [i for i, f in enumerate(features) if f.source != "scores" or f.column in scored]
    return StateSpec([features[i] for i in kept]), np.array(kept, np.int64)


def _features(world: World) -> list[Feature]:
    s, tasks = world.settings, world.tasks.names
    found = [Feature(f"cohort_{name}", "user", "cohort", equals=str(i)) for i, name in enumerate(s.cohorts)]
    found += [Feature("price_grade", "user", "price_grade", 1 / 3), Feature("activity_level", "user", "activity_level", 1 / 4)]
    past = [name for name in world.user_columns() if name.startswith("past_")]
    found += [Feature(name, "user", name, transform="log") for name in past]
    found.append(Feature("step", "request", "step", 1 / s.step_limit))
    found.append(Feature("days_since", "request", "days_since", 1 / 30, high=30))
    found += [Feature(f"scenario_{name}", "request", "scenario", equals=name) for name in s.scenarios]
    page = {task: 1 / (s.page_size * (30.0 if task == "watch_s" else 1.0)) for task in tasks}
    unit = {task: float(u) for task, u in zip(tasks, world.unit, strict=True)}
    found += [Feature(f"session_{task}", "request", f"session_{task}", page[task], transform="log1p") for task in tasks]
    found += [Feature(f"page_{task}", "request", f"page_{task}", page[task]) for task in tasks]
    found += [Feature(f"mean_score_{task}", "scores", task, unit[task]) for task in tasks]
    found += [Feature(f"best_score_{task}", "scores", task, unit[task], transform="log1p", stat="best") for task in tasks]
    return found

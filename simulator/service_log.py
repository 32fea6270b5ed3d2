"""A rollout in the service's own tables (requests, exposures, feedback), so that what reads an event store reads it too."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from core.arrays import AnyArray, Floats32
from core.events import EXPOSURE_SCHEMA, FEEDBACK_SCHEMA, REQUEST_SCHEMA
from simulator.env import SessionEnv
from simulator.policies import Action, Draw, Policy
from simulator.rollout import request_ids, run_sessions
from simulator.session import Page

Tables = dict[str, pa.Table]


def service_log(
    env: SessionEnv, policy: Policy, n_sessions: int, *, seed: int, strategy: str = "simulated", progress: bool = False
) -> Tables:
    """What the service would have stored had it ranked these sessions: tables `requests`, `exposures`, `feedback` of
    `core.events`, for `EventStore.append(**tables)`.

    A request holds the policy's state (the observation), action, baseline, the component that drew the action with its density,
    the mixture's density as `propensity`, half the box's width, and every candidate with its scores.
    """
    parts: list[Tables] = []
    seen: dict[str, Floats32] = {}

    def watched(obs: Floats32, draw: Draw) -> Action:
        seen["obs"] = obs
        return policy(obs, draw)

    def record(page: Page, final: Floats32, action: Action, keep: AnyArray) -> None:
        rows = np.flatnonzero(keep)
        ids = request_ids(env.sessions.user[rows], env.sessions.session[rows], env.sessions.step[rows])
        tables = {"requests": _requests(env, page, action, seen["obs"], rows, ids, strategy)}
        parts.append(
            {**tables, "exposures": _exposures(env, page, final, rows, ids), "feedback": _feedback(env, page, rows, ids)}
        )

    run_sessions(env, record, policy=watched, n_sessions=n_sessions, seed=seed, progress=progress)
    names = ("requests", "exposures", "feedback")
    return {name: pa.concat_tables([part[name] for part in parts]).combine_chunks() for name in names}


def _requests(
    env: SessionEnv, page: Page, action: Action, obs: Floats32, rows: AnyArray, ids: AnyArray, strategy: str
) -> pa.Table:
    sessions, world = env.sessions, env.world
    n = len(rows)
    labels = world.tasks.names if env.n_params == len(world.tasks) else tuple(f"p{i}" for i in range(env.n_params))
    logged = action.columns
    component, density = _component(action, rows)
    baseline = np.asarray(logged["baseline"])[rows] if "baseline" in logged else action.action[rows]
    half = np.full(n, np.nan)
    if "box_low" in logged:
        half = (
            np.maximum(logged["box_high"] - logged["baseline"], logged["baseline"] - logged["box_low"]).max(1)[rows].astype(float)
        )
    candidates = [row.tobytes() for row in sessions.items[rows].astype("<i8")]
    scores = [row.tobytes() for row in np.ascontiguousarray(sessions.scores[rows]).astype("<f2")]
    scenarios = np.array(list(world.settings.scenarios), object)[sessions.place[rows]]
    columns: dict[str, object] = {
        "request_id": ids,
        "time_ms": page.time_ms[rows],
        "user_id": sessions.user[rows].astype(str).astype(object),
        "scenario": scenarios,
        "n_candidates": np.full(n, world.settings.n_candidates),
        "ranker_version": [world.settings.preset] * n,
        "strategy": [strategy] * n,
        "strategy_version": [strategy] * n,
        "tasks": [list(world.tasks.names)] * n,
        "weight_names": [list(labels)] * n,
        "weights": list(env.weights(action.action)[rows].astype(float)),
        "propensity": action.propensity[rows],
        "candidates": candidates,
        "candidate_scores": scores,
        "session": sessions.session[rows].astype(str).astype(object),
        "step": sessions.step[rows],
        "state": list(obs[rows]),
        "action": list(action.action[rows]),
        "baseline": list(np.asarray(baseline, np.float32)),
        "component": component,
        "component_density": density,
        "box": half,
    }
    return _table(columns, REQUEST_SCHEMA, n)


def _component(action: Action, rows: AnyArray) -> tuple[list[str], AnyArray]:
    """What drew each action, and that component's density; empty without exploration."""
    logged = action.columns
    if "component" in logged:
        wide = logged["component"][rows] > 0
        density = np.where(wide, logged["density_wide"][rows], logged["density_near"][rows])
        return np.where(wide, "wide", "near").tolist(), density
    density = np.asarray(action.propensity[rows], float)
    return ["box" if "box_low" in logged else "" if np.isnan(value) else "policy" for value in density], density


def _exposures(env: SessionEnv, page: Page, final: Floats32, rows: AnyArray, ids: AnyArray) -> pa.Table:
    k, names = page.items.shape[1], env.world.tasks.names
    planes = np.take_along_axis(env.sessions.planes, np.broadcast_to(page.rows, (len(names), *page.rows.shape)), 2)
    columns: dict[str, object] = {
        "request_id": np.repeat(ids, k),
        "time_ms": np.repeat(page.time_ms[rows], k),
        "user_id": np.repeat(env.sessions.user[rows].astype(str).astype(object), k),
        "item_id": page.items[rows].ravel(),
        "position": np.tile(np.arange(1, k + 1), len(rows)),
        "scores": list(np.moveaxis(planes[:, rows], 0, -1).reshape(-1, len(names))),
        "final": final[rows].ravel().astype(float),
    }
    return _table(columns, EXPOSURE_SCHEMA, len(rows) * k)


def _feedback(env: SessionEnv, page: Page, rows: AnyArray, ids: AnyArray) -> pa.Table:
    done = page.outcome.done[:, rows]
    task, slot, column = np.nonzero(done)
    names = np.array(env.world.tasks.names, object)[task]
    items = page.items[rows][slot, column]
    columns: dict[str, object] = {
        "event_id": [f"{request}-{item}-{name}" for request, item, name in zip(ids[slot], items, names, strict=True)],
        "request_id": ids[slot],
        "item_id": items,
        "task": names,
        "value": done[task, slot, column].astype(float),
        "time_ms": page.time_ms[rows][slot] + 1000,
    }
    return _table(columns, FEEDBACK_SCHEMA, len(task))


def _table(columns: dict[str, object], schema: pa.Schema, n: int) -> pa.Table:
    arrays = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(n, f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)

"""Rollouts: let a policy or a recommender run many sessions and write down what the service would have logged.

A row depends on its session alone, and rows come in the order of sessions, so neither the number of slots nor the split into
shards changes a byte.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from core.arrays import AnyArray, Floats, Floats32, Ints
from core.errors import ConfigError, DataError
from core.events import AT, SCORE, WEIGHT, Request, Slate
from core.logs import LoggedDataset
from simulator.env import SessionEnv
from simulator.episodes import Lives, LoneSessions
from simulator.policies import Action, Draw, Policy
from simulator.satisfaction import add_up
from simulator.session import Page, Sessions, top

Recommend = Callable[[Request], Slate]
Rank = Callable[[Sessions], Floats32]  # final scores [n, n_candidates] of what the slots are offered
Recorder = Callable[[Page, Floats32, Action, AnyArray], None]
_Chunks = dict[str, list[AnyArray]]


def rollout(
    env: SessionEnv,
    policy: Policy | None = None,
    n_sessions: int | None = None,
    *,
    seed: int,
    recommend: Recommend | None = None,
    rank: Rank | None = None,
    n_days: int | None = None,
    users: Ints | None = None,
    first: int = 0,
    progress: bool = False,
) -> LoggedDataset:
    """Impressions of simulated sessions, in the columns of the service's joined log.

    Args:
        policy: Chooses the fusion's action; see `simulator.policies`.
        n_sessions: Sessions of random users, numbered from `first`; or
        n_days: the days that `users` (all by default) live through, leaving and coming back.
        recommend: Ranks one request at a time in the place of the policy: an Engine's `rank`, a baseline, a stub.
        rank: The same for all slots at once: final scores of the candidates in `sessions.items`, `[n, n_candidates]`.

    Returns:
        One row an impression: request_id, user_id, item_id, scenario, position, time_ms, every behaviour, `score_<task>`,
        `final`,
        `propensity`, `weight_<name>` (policies), session, step, `left` (1 on the session's last page if the user left),
        `days_away`.
    """
    chunks: _Chunks = {}

    def record(page: Page, final: Floats32, action: Action, keep: AnyArray) -> None:
        _record_impressions(chunks, env, page, final, action, keep)

    run_sessions(
        env,
        record,
        policy=policy,
        recommend=recommend,
        rank=rank,
        n_sessions=n_sessions,
        seed=seed,
        n_days=n_days,
        users=users,
        first=first,
        progress=progress,
    )
    return _in_order(
        env, chunks, ("user_id", "session", "step", "position") if n_days is not None else ("session", "step", "position")
    )


def transitions(
    env: SessionEnv,
    policy: Policy,
    n_sessions: int,
    *,
    seed: int,
    first: int = 0,
    candidates: bool = False,
    progress: bool = False,
) -> LoggedDataset:
    """One row a page: `obs`, `action`, `reward`, `next_obs`, `terminated`, `truncated`, `propensity`, the policy's columns,
    and the counts.

    `next_obs` of a session's last page carries the last page's candidates (none are drawn for a page that is not shown).
    With `candidates`, what was offered is kept too: `candidates` `[n, N]` and `candidate_scores` `[n, N * n_tasks]` (float16,
    item by item), as the service keeps them for off-policy weights of slates; `slate`, how often each behaviour happened at each
    position (`at_<task>`), and what that earned (`position_rewards`), `[n, page_size]` each.
    """
    chunks: _Chunks = {}
    waiting: dict[str, AnyArray] = {}
    gains = np.array([env.world.settings.reward.get(task, 0.0) for task in env.world.tasks.names], np.float32)

    def record(page: Page, final: Floats32, action: Action, keep: AnyArray) -> None:
        sessions = env.sessions
        over = page.left | page.cut
        ids = {"user_id": sessions.user, "session": sessions.session, "step": sessions.step, "time_ms": page.time_ms}
        counts = dict(zip(env.world.tasks.names, page.counts.T, strict=True))
        flow = {
            "reward": page.reward,
            "terminated": page.left,
            "truncated": page.cut,
            "days_away": np.where(over, page.days_away, -1),
        }
        _add(chunks, {**ids, "obs": waiting["obs"], "action": action.action, "propensity": action.propensity}, keep)
        _add(chunks, {**flow, **counts, **action.columns, "next_obs": env.observer.see(sessions)}, keep)
        if candidates:
            offered = sessions.scores[keep].astype(np.float16)
            kept: dict[str, AnyArray] = {
                "candidates": sessions.items[keep],
                "candidate_scores": offered.reshape(len(offered), -1),
                "slate": page.items[keep],
                "position_rewards": add_up(np.moveaxis(page.outcome.done[:, keep], 0, -1) * gains),
                **{AT + name: page.outcome.done[i][keep] for i, name in enumerate(env.world.tasks.names)},
            }
            _add(chunks, kept, None)
        waiting["open"] = np.flatnonzero(keep & ~over)
        waiting["rows"] = np.cumsum(keep)[waiting["open"]] - 1

    def choose(see: See, draw: Draw) -> tuple[Ints, Floats32, Action]:
        obs = see()
        if "rows" in waiting:  # candidates of the next page are drawn now: complete the last page's next_obs
            chunks["next_obs"][-1][waiting["rows"]] = obs[waiting["open"]]
        waiting["obs"] = obs
        return chosen(lambda: obs, draw)

    chosen = _chooser(env, policy, None, None)
    _run(env, choose, record, n_sessions, seed, None, None, first, progress)
    return _in_order(env, chunks, ("session", "step"))


def join_features(env_world_items: LoggedDataset, users: LoggedDataset, log: LoggedDataset) -> LoggedDataset:
    """The log with the visible columns of its items and users beside it; ids are row numbers of the world's tables."""
    items = {name: env_world_items[name][log["item_id"]] for name in env_world_items if name != "item_id"}
    people = {name: users[name][log["user_id"]] for name in users if name != "user_id"}
    return log.with_columns({**items, **people})


See = Callable[[], Floats32]  # the observation, for whoever wants it
Choose = Callable[[See, Draw], tuple[Ints, Floats32, Action]]  # rows [B, k] shown, their final [B, k], the action


def _chooser(env: SessionEnv, policy: Policy | None, recommend: Recommend | None, rank: Rank | None) -> Choose:
    if sum(given is not None for given in (policy, recommend, rank)) != 1:
        raise ConfigError("give one of: a policy, a recommend callable, a rank callable")
    k = env.world.settings.page_size

    def by_policy(see: See, draw: Draw) -> tuple[Ints, Floats32, Action]:
        assert policy is not None
        action = policy(see(), draw)
        if action.action.shape != (env.num_envs, env.n_params):
            raise ConfigError(
                f"the policy gave actions of shape {action.action.shape}; the formula needs [{env.num_envs}, {env.n_params}]"
            )
        final = env.fuse(env.weights(action.action), env.sessions.scores)
        rows = top(final, k)
        return rows, np.take_along_axis(final, rows, 1), action

    def by_request(see: See, draw: Draw) -> tuple[Ints, Floats32, Action]:
        assert recommend is not None
        rows, final = np.zeros((env.num_envs, k), np.int64), np.zeros((env.num_envs, k), np.float32)
        propensity = np.full(env.num_envs, np.nan)
        for slot, request in enumerate(requests(env.sessions)):
            slate = recommend(request)
            rows[slot] = rows_of(slate, request)
            final[slot], propensity[slot] = slate.final[:k], slate.propensity
        return rows, final, Action(np.zeros((env.num_envs, 0), np.float32), propensity)

    def by_rank(see: See, draw: Draw) -> tuple[Ints, Floats32, Action]:
        assert rank is not None
        final = rank(env.sessions)
        rows = top(final, k)
        nothing = Action(np.zeros((env.num_envs, 0), np.float32), np.full(env.num_envs, np.nan))
        return rows, np.take_along_axis(final, rows, 1), nothing

    return by_policy if policy is not None else by_request if recommend is not None else by_rank


def requests(sessions: Sessions) -> list[Request]:
    """What the slots ask for now, one request each."""
    names, s = list(sessions.world.settings.scenarios), sessions.world.settings
    about = session_context(sessions)
    ids = request_ids(sessions.user, sessions.session, sessions.step + 1)
    return [
        Request(
            ids[i],
            str(sessions.user[i]),
            sessions.items[i].copy(),
            names[sessions.place[i]],
            about[i],
            page_size=s.page_size,
            time_ms=int(t),
        )
        for i, t in enumerate(sessions.clock_ms)
    ]


def session_context(sessions: Sessions) -> list[dict[str, object]]:
    """What a client knows of each slot's session and sends with its request: `session`, `step` (pages seen so far),
    `days_since` the last session, and how often each behaviour happened in the session (`session_<task>`) and on the last page
    (`page_<task>`)."""
    tasks = sessions.world.tasks.names
    names = ["step", "days_since", *(f"session_{task}" for task in tasks), *(f"page_{task}" for task in tasks)]
    rows = zip(
        sessions.step.tolist(), sessions.days_since.tolist(), *sessions.counts.T.tolist(), *sessions.last.T.tolist(), strict=True
    )
    who = zip(sessions.user.tolist(), sessions.session.tolist(), strict=True)
    return [{"session": f"u{u}-s{s}", **dict(zip(names, row, strict=True))} for (u, s), row in zip(who, rows, strict=True)]


def rows_of(slate: Slate, request: Request) -> Ints:
    """Rows of the request's candidates that a slate shows, `[page_size]`.

    Raises:
        DataError: The slate is short, repeats an item, or shows one that was no candidate.
    """
    k = request.page_size
    shown = np.asarray(slate.items, np.int64)[:k]
    order = np.argsort(request.candidates, kind="stable")
    at = np.minimum(np.searchsorted(request.candidates, shown, sorter=order), len(order) - 1)
    rows = order[at]
    if len(shown) < k or len(set(shown.tolist())) < k or not np.array_equal(request.candidates[rows], shown):
        raise DataError(
            f"slate of {request.request_id}: {len(shown)} items; it must hold {k} different candidates of its request"
        )
    return rows


def request_ids(user: Ints, session: Ints, step: Ints) -> AnyArray:
    """`u<user>-s<session>-p<page>`, an object array of str."""
    parts = [pa.array(np.asarray(x, np.int64)).cast(pa.string()) for x in (user, session, step)]
    joined = pc.binary_join_element_wise("u", parts[0], "-s", parts[1], "-p", parts[2], "")
    ids: AnyArray = joined.to_numpy(zero_copy_only=False)
    return ids


def run_sessions(
    env: SessionEnv,
    record: Recorder,
    *,
    policy: Policy | None = None,
    recommend: Recommend | None = None,
    rank: Rank | None = None,
    n_sessions: int | None = None,
    seed: int,
    n_days: int | None = None,
    users: Ints | None = None,
    first: int = 0,
    again: int | None = None,
    progress: bool = False,
) -> None:
    """The loop under `rollout`, for whoever wants another record: `record(page, final, action, keep)` after each page,
    `keep` `[n]` telling which slots count; `again` as in `LoneSessions`."""
    _run(env, _chooser(env, policy, recommend, rank), record, n_sessions, seed, n_days, users, first, progress, again)


def _run(
    env: SessionEnv,
    choose: Choose,
    record: Recorder,
    n_sessions: int | None,
    seed: int,
    n_days: int | None,
    users: Ints | None,
    first: int,
    progress: bool,
    again: int | None = None,
) -> None:
    """The loop itself; leaves the environment in need of a reset."""
    if (n_sessions is None) == (n_days is None) or min(n_sessions or 1, n_days or 1) < 1:
        raise ConfigError(f"n_sessions {n_sessions} and n_days {n_days}: give one of the two, at least 1")
    sessions, everybody = env.sessions, np.arange(len(env.world.population))
    source: Lives | LoneSessions = (
        LoneSessions(sessions, seed, first=first, limit=n_sessions, again=again)
        if n_sessions is not None
        else Lives(sessions, seed, everybody if users is None else np.asarray(users, np.int64), n_days or 1)
    )
    env.close_source()
    source.start()
    unit = "session" if n_sessions is not None else "user"
    total = n_sessions if n_sessions is not None else len(everybody if users is None else users)
    with tqdm(total=total, unit=unit, disable=not progress) as bar:
        while source.alive.any():
            sessions.offer()
            rows, final, action = choose(lambda: env.observer.see(sessions), Draw(sessions.stream))
            keep = source.alive.copy()
            page = sessions.show(rows)
            record(page, final, action, keep)
            slots = np.flatnonzero((page.left | page.cut) & keep)
            source.follow(slots, page)
            bar.update(len(slots) if n_sessions is not None else source.done - bar.n if isinstance(source, Lives) else 0)


def _record_impressions(chunks: _Chunks, env: SessionEnv, page: Page, final: Floats32, action: Action, keep: AnyArray) -> None:
    sessions, k, names = env.sessions, page.items.shape[1], env.world.tasks.names
    planes = np.take_along_axis(sessions.planes, np.broadcast_to(page.rows, (len(names), *page.rows.shape)), 2)
    over = page.left | page.cut
    weights: dict[str, AnyArray] = {}
    if action.action.shape[1]:
        values = env.weights(action.action)
        labels = names if env.n_params == len(names) else tuple(f"p{i}" for i in range(env.n_params))
        weights = {WEIGHT + name: values[:, i] for i, name in enumerate(labels)}
    request: dict[str, AnyArray] = {
        "user_id": sessions.user,
        "session": sessions.session,
        "step": sessions.step,
        "place": sessions.place,
        "time_ms": page.time_ms,
        "propensity": action.propensity,
        "left": (page.left & over).astype(np.int8),
        "days_away": np.where(over, page.days_away, -1),
        **weights,
        **{name: column for name, column in action.columns.items() if column.ndim == 1},
    }
    item: dict[str, AnyArray] = {
        "item_id": page.items,
        "position": np.broadcast_to(np.arange(1, k + 1), page.items.shape),
        "final": final.astype(float),
        **{name: page.outcome.done[i] for i, name in enumerate(names)},
        **{SCORE + name: planes[i] for i, name in enumerate(names)},
    }
    _add(chunks, {name: np.repeat(column[keep], k) for name, column in request.items()}, None)
    _add(chunks, {name: column[keep].ravel() for name, column in item.items()}, None)


def _add(chunks: _Chunks, columns: dict[str, AnyArray], keep: AnyArray | None) -> None:
    for name, column in columns.items():
        chunks.setdefault(name, []).append(column if keep is None else column[keep])


def _in_order(env: SessionEnv, chunks: _Chunks, by: tuple[str, ...]) -> LoggedDataset:
    if not chunks:
        raise DataError("nobody had a session in these days; simulate more users or more days")
    columns = {name: np.concatenate(parts) for name, parts in chunks.items()}
    order = np.lexsort([columns[name] for name in reversed(by)])
    columns = {name: column[order] for name, column in columns.items()}
    ids: dict[str, AnyArray] = {"request_id": request_ids(columns["user_id"], columns["session"], columns["step"])}
    if "place" in columns:
        ids["scenario"] = np.array(list(env.world.settings.scenarios), object)[columns.pop("place")]
    return LoggedDataset({**ids, **columns})


def session_returns(log: LoggedDataset) -> Floats:
    """Return of each session of a transition table, in the order of sessions."""
    _, index = np.unique(log["session"], return_inverse=True)
    totals: Floats = np.bincount(index, weights=log["reward"]).astype(float)
    return totals

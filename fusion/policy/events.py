"""The service's own events as transitions: requests become sessions, logged states and actions, rewards from feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.arrays import AnyArray, Floats, Ints
from core.errors import DataError
from core.events import AT
from fusion.policy.reward import Reward
from fusion.policy.transitions import Gaps, Transitions


@dataclass(frozen=True, slots=True)
class PolicyNames:
    """What a logging policy's numbers are called: of its state, its parameters with their ranges, and the tasks it scored."""

    obs: Sequence[str]
    params: Sequence[str]
    low: Floats
    high: Floats
    tasks: Sequence[str] = ()


def from_events(
    requests: pa.Table,
    feedback: pa.Table,
    exposures: pa.Table | None = None,
    *,
    names: PolicyNames,
    reward: Reward,
    gap_s: float = 1800.0,
    until_ms: int | None = None,
    step_limit: int | None = None,
    gaps: Gaps = "error",
    first_session: int = 0,
) -> Transitions:
    """The table of one logging policy's requests.

    A session is what the caller named so (`session`), else requests of a user that follow one another within `gap_s`. A page's
    number is the caller's `step`, else its place in the session. A page without a logged state (a fallback, an outage) is a hole;
    a session without any is somebody else's and left out.

    A session has ended (`terminated`) when another of its user followed, or nothing for `gap_s` before `until_ms`, unless it
    reached `step_limit`; one that may still go on, or was cut by the limit, is `truncated` at its last page, whose `next_obs` is
    its own state, as the next one was never seen.

    Args:
        requests: Rows of `core.events.REQUEST_SCHEMA` with `user_key`, the whole of each session.
        feedback: `request_id`, `task`, `value`, summed; with `item_id` (null where it is of the page) also `position_rewards`.
        exposures: `request_id`, `item_id`, `position` of what was shown, for `slate`; left out without.
        until_ms: When the log ends; the newest request by default.
        gaps: What to do with sessions that have holes: refuse, or leave them out.
        first_session: Number of the first session, when a log is read part by part.

    Raises:
        DataError: No request has a state, none has a density (nothing was explored), a session has holes, or a number is wrong.
    """
    if requests.num_rows == 0:
        raise DataError("the log has no request of this policy; let a bucket explore with it first")
    known = requests.column("state").is_valid().to_numpy()
    if not known.any():
        raise DataError(
            f"none of {requests.num_rows} requests has a state; only requests that a policy answered can be learned from"
        )
    if not np.isfinite(_numbers(requests, "propensity")[known]).any() or not _explored(requests).any():
        raise DataError(
            f"none of {int(known.sum())} requests has a propensity: the policy did not explore; let a bucket explore with it"
        )
    time_ms = _numbers(requests, "time_ms").astype(np.int64)
    user = _numbers(requests, "user_key").astype(np.int64)
    session = _sessions(requests, user, time_ms, gap_s)
    ours = np.bincount(session, known)[session] > 0
    order = np.lexsort([time_ms, _steps(requests, time_ms), session])
    order = order[ours[order]]
    session, time_ms, known = session[order], time_ms[order], known[order]
    requests = requests.take(pa.array(order))
    step = _page_numbers(requests, session)
    last = np.r_[session[1:] != session[:-1], True]
    end = max(int(time_ms.max()), 0) if until_ms is None else until_ms
    cut = step - step.min() + 1 >= step_limit if step_limit is not None else np.zeros(len(step), bool)
    is_open = ((end - time_ms < 1000 * gap_s) & (time_ms == _newest(user[order], time_ms))) | cut
    rows = np.flatnonzero(known)
    kept = requests.take(pa.array(rows))
    obs = _matrix(kept, "state", len(names.obs))
    slates = {} if exposures is None else _slates(kept, exposures)
    columns: dict[str, AnyArray] = {
        "session": session[rows] + first_session,
        "step": step[rows],
        "user": user[order][rows],
        "obs": obs,
        "next_obs": _next(obs, session[rows]),
        "action": _matrix(kept, "action", len(names.params)),
        "baseline": _matrix(kept, "baseline", len(names.params)),
        "terminated": (last & ~is_open)[rows],
        "truncated": (last & is_open)[rows],
        "time_ms": time_ms[rows],
        "propensity": np.where(_explored(kept), _numbers(kept, "propensity"), np.nan),
        **_counts(kept, feedback, reward.tasks),
        **_offered(kept, len(names.tasks)),
        **slates,
        **(_at_positions(kept, feedback, slates["slate"], reward.tasks) if slates else {}),
    }
    half = _numbers(kept, "box")
    if np.isfinite(half).all():
        columns |= {"box_low": columns["baseline"] - half[:, None], "box_high": columns["baseline"] + half[:, None]}
    ends = _ends_known(session, last, known)
    if gaps == "error" and not ends.all():
        raise DataError(f"{int((~ends).sum())} sessions end with a page that has no state; take gaps 'drop' to leave them out")
    whole = ends[np.searchsorted(np.unique(session), session[rows])]
    return Transitions.from_log(
        {name: column[whole] for name, column in columns.items()},
        obs_names=names.obs,
        param_names=names.params,
        low=names.low,
        high=names.high,
        reward=reward,
        task_names=names.tasks,
        gaps=gaps,
    )


def _explored(requests: pa.Table) -> AnyArray:
    explored: AnyArray = pc.not_equal(pc.fill_null(requests.column("component"), ""), "").to_numpy()
    return explored


def _numbers(table: pa.Table, name: str) -> AnyArray:
    """A numeric column; null becomes NaN in columns that have one."""
    found: AnyArray = table.column(name).to_numpy()
    return found


def _sessions(requests: pa.Table, user: Ints, time_ms: Ints, gap_s: float) -> Ints:
    """Number of each request's session: by user and the caller's name, else by user and pauses longer than `gap_s`."""
    named = np.array([text or "" for text in requests.column("session").to_pylist()], object)
    order = np.lexsort([time_ms, named.astype(str), user])
    u, name, t = user[order], named[order], time_ms[order]
    pause = (np.diff(t) > 1000 * gap_s) & (name[1:] == "")
    starts = np.r_[True, (np.diff(u) != 0) | (name[1:] != name[:-1]) | pause]
    numbers = np.empty(len(user), np.int64)
    numbers[order] = np.cumsum(starts) - 1
    return numbers


def _newest(user: Ints, time_ms: Ints) -> Ints:
    """Time of each row's user's newest request."""
    _, index = np.unique(user, return_inverse=True)
    newest = np.zeros(int(index.max()) + 1, np.int64)
    np.maximum.at(newest, index, time_ms)
    return newest[index]


def _steps(requests: pa.Table, time_ms: Ints) -> AnyArray:
    step = _numbers(requests, "step").astype(float)
    return np.where(np.isnan(step), time_ms, step)


def _page_numbers(requests: pa.Table, session: Ints) -> Ints:
    """The caller's page numbers where every page of the log has one, else the place within the session; rows are sorted."""
    step = _numbers(requests, "step").astype(float)
    if not np.isnan(step).any():
        return step.astype(np.int64)
    starts = np.flatnonzero(np.r_[True, np.diff(session) != 0])
    return np.arange(len(session)) - np.repeat(starts, np.diff(np.r_[starts, len(session)]))


def _ends_known(session: Ints, last: AnyArray, known: AnyArray) -> AnyArray:
    """Whether each session's last page has a state, in the order of sessions."""
    ends: AnyArray = known[last]
    return ends


def _next(obs: AnyArray, session: Ints) -> AnyArray:
    after = obs.copy()
    goes_on = np.flatnonzero(np.diff(session) == 0)
    after[goes_on] = obs[goes_on + 1]
    return after


def _matrix(table: pa.Table, name: str, width: int) -> AnyArray:
    """A list column as `[n, width]` float32."""
    lists = table.column(name).combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        raise DataError(
            f"request {table.column('request_id')[int(wrong[0])]} has {lengths[wrong[0]]} numbers in {name!r}, the policy "
            f"{width}; the log was made by another policy"
        )
    values: AnyArray = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, width).astype(np.float32)
    return values


def _counts(requests: pa.Table, feedback: pa.Table, tasks: Sequence[str]) -> dict[str, AnyArray]:
    """What happened on each page, `[n]` by task; 0 where nothing came back."""
    counts = {}
    for task in tasks:
        of_task = feedback.filter(pc.equal(feedback.column("task"), task))
        column = np.zeros(requests.num_rows)
        there, row = _rows(of_task, requests)
        np.add.at(column, row, of_task.column("value").to_numpy()[there])
        counts[task] = column
    return counts


def _at_positions(requests: pa.Table, feedback: pa.Table, slate: Ints, tasks: Sequence[str]) -> dict[str, AnyArray]:
    """What happened to the item at each position, `[n, k]` by task; feedback on other items or on the page is left out."""
    if "item_id" not in feedback.column_names:
        return {}
    found = {}
    for task in tasks:
        of_task = feedback.filter(pc.and_(pc.equal(feedback.column("task"), task), pc.is_valid(feedback.column("item_id"))))
        there, row = _rows(of_task, requests)
        named = slate[row] == of_task.column("item_id").to_numpy()[there][:, None]  # (m, k)
        at, shown = named.argmax(1), named.any(1)
        column = np.zeros(slate.shape)
        np.add.at(column, (row[shown], at[shown]), of_task.column("value").to_numpy()[there][shown])
        found[AT + task] = column
    return found


def _rows(events: pa.Table, requests: pa.Table) -> tuple[AnyArray, Ints]:
    """Which events are of one of the requests, and of which: a mask over events, and row numbers of the marked ones."""
    ids: Any = requests.column("request_id").combine_chunks()
    at = pc.index_in(events.column("request_id"), value_set=ids).to_numpy().astype(float)
    there = ~np.isnan(at)
    return there, at[there].astype(np.int64)


def _offered(requests: pa.Table, n_tasks: int) -> dict[str, AnyArray]:
    """Candidates and their scores, where every request has the same number of them."""
    blobs, scored = requests.column("candidates").to_pylist(), requests.column("candidate_scores").to_pylist()
    sizes = {len(blob) if blob is not None else -1 for blob in blobs}
    if len(sizes) != 1 or -1 in sizes or not n_tasks:
        return {}
    n = sizes.pop() // 8
    if any(blob is None or len(blob) != 2 * n * n_tasks for blob in scored):
        return {}
    items = np.frombuffer(b"".join(blobs), np.int64).reshape(-1, n)
    values = np.frombuffer(b"".join(scored), np.float16).reshape(-1, n * n_tasks)
    return {"candidates": items, "candidate_scores": values}


def _slates(requests: pa.Table, exposures: pa.Table) -> dict[str, AnyArray]:
    """Items shown `[n, k]`, best first, where every request showed the same number."""
    there, row = _rows(exposures, requests)
    position = exposures.column("position").to_numpy()[there]
    sizes = np.bincount(row, minlength=requests.num_rows)
    if len(sizes) == 0 or (sizes != sizes[0]).any() or sizes[0] == 0:
        return {}
    items = exposures.column("item_id").to_numpy()[there][np.lexsort([position, row])]
    return {"slate": items.reshape(-1, int(sizes[0])).astype(np.int64)}

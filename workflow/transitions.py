"""Where transitions come from: a folder that was written before, or the event store of a service whose policy explored."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from core.artefacts import Artefact
from core.errors import ConfigError, DataError
from experiment.store import EventStore, open_store
from experiment.store.interface import quote
from fusion.policy.events import PolicyNames, from_events
from fusion.policy.reward import Reward
from fusion.policy.strategy import PolicyStrategy
from fusion.policy.transitions import Gaps, Transitions, save_parts
from fusion.strategy import load_strategy

URLS = ("duckdb://", "postgresql://", "postgres://")
PART_ROWS = 200_000  # requests read at once


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """How an event store's requests become sessions."""
    parser.add_argument(
        "--gap-s", type=float, default=1800.0, help="with an event store: a pause this long ends a session (default: %(default)s)"
    )
    parser.add_argument("--step-limit", type=int, help="with an event store: pages after which a session is cut, not left")
    parser.add_argument(
        "--gaps", choices=("error", "drop"), default="error", help="sessions that lack a page (default: %(default)s)"
    )


def open_transitions(
    log: str,
    folder: str | Path,
    *,
    policy: Artefact | None = None,
    reward: Reward | None = None,
    gap_s: float = 1800.0,
    step_limit: int | None = None,
    gaps: Gaps = "error",
) -> Transitions:
    """The table that `log` names, as memory maps.

    Args:
        log: A folder that `Transitions.save` wrote, or the URL of an event store; that is read into `folder` first.
        policy: The policy that explored; the store's requests of exactly this version are taken.
        reward: What its pages were worth. gap_s, step_limit, gaps: See `fusion.policy.events.from_events`.

    Raises:
        ConfigError: A store needs a policy and a reward; the artefact is no policy.
        DataError: The log cannot be learned from.
    """
    if not log.startswith(URLS):
        return Transitions.load(log)
    if policy is None or reward is None:
        raise ConfigError(f"{log}: to read transitions from an event store, name the policy that explored and its reward")
    store = open_store(log, read_only=True)
    try:
        save_parts(folder, read_transitions(store, policy, reward, gap_s=gap_s, step_limit=step_limit, gaps=gaps))
    finally:
        store.close()
    return Transitions.load(folder)


def read_transitions(
    store: EventStore,
    policy: Artefact,
    reward: Reward,
    *,
    gap_s: float = 1800.0,
    step_limit: int | None = None,
    gaps: Gaps = "error",
    part_rows: int = PART_ROWS,
) -> Iterator[Transitions]:
    """The store's transitions of one policy, some users at a time, so that a log may be larger than memory.

    Raises:
        ConfigError: The artefact is no policy.
        DataError: See `from_events`; or the store holds no request of this policy.
    """
    strategy = load_strategy(policy)
    if not isinstance(strategy, PolicyStrategy):
        raise ConfigError(f"{policy.label} is no policy but {policy.config.get('strategy')!r}; name the policy that explored")
    mine = f"user_key IN (SELECT user_key FROM requests WHERE strategy_version = {quote(policy.label)})"
    about = store.select(f"SELECT count(*) AS n, coalesce(max(time_ms), 0) AS until FROM requests WHERE {mine}")
    n, until_ms = int(about["n"][0]), int(about["until"][0])
    if not n:
        raise DataError(f"{store.url} holds no request that {policy.label} answered; let a bucket explore with it first")
    n_parts, n_sessions = -(-n // part_rows), 0
    for part in range(n_parts):
        users = f"{mine} AND abs(user_key % {n_parts}) = {part}"
        # a page that something else answered stays as a hole: its state is not this policy's
        own = f"CASE WHEN strategy_version = {quote(policy.label)} THEN state END"
        asked = store.arrow(f"SELECT *, {own} AS own_state FROM requests WHERE {users} ORDER BY user_key, time_ms")
        if not asked.num_rows:
            continue
        asked = asked.set_column(asked.column_names.index("state"), "state", asked.column("own_state")).drop_columns(
            ["own_state"]
        )
        ids = f"SELECT request_id FROM requests WHERE {users}"
        feedback = store.arrow(
            f"SELECT request_id, item_id, task, sum(value) AS value FROM feedback WHERE request_id IN ({ids})"
            " GROUP BY request_id, item_id, task"
        )
        shown = store.arrow(f"SELECT request_id, item_id, position FROM exposures WHERE request_id IN ({ids})")
        table = from_events(
            asked,
            feedback,
            shown,
            names=_names(strategy, tuple(asked.column("tasks")[0].as_py() or ())),
            reward=reward,
            gap_s=gap_s,
            until_ms=until_ms,
            step_limit=step_limit,
            gaps=gaps,
            first_session=n_sessions,
        )
        n_sessions += asked.num_rows
        yield table


def _names(strategy: PolicyStrategy, tasks: tuple[str, ...]) -> PolicyNames:
    return PolicyNames(strategy.state.names, strategy.formula.params, strategy.low, strategy.high, tasks)

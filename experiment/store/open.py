"""One door to every event store: its URL."""

from __future__ import annotations

from core.errors import StoreError
from experiment.store.interface import EventStore


def open_store(url: str, *, read_only: bool = False) -> EventStore:
    """Open `duckdb://PATH` (`duckdb:///abs/path`, `duckdb://relative/path`, `duckdb://:memory:`) or `postgresql://...`.

    Args:
        read_only: Refuse to create or change anything.

    Raises:
        StoreError: Unknown scheme, no such file, another process holds the file, the server does not answer.

    >>> store = open_store("duckdb://:memory:")
    >>> store.select("SELECT count(*) AS n FROM feedback")["n"].tolist()
    [0]
    >>> store.close()
    """
    if url.startswith("duckdb://"):
        from experiment.store.duckdb import DuckDBStore

        return DuckDBStore(url.removeprefix("duckdb://"), read_only=read_only)
    if url.startswith(("postgresql://", "postgres://")):
        from experiment.store.postgres import PostgresStore  # its driver is loaded only where it is used

        return PostgresStore(url, read_only=read_only)
    raise StoreError(f"event store URL {url!r} is not known; use duckdb:///path/events.duckdb or postgresql://user@host/database")

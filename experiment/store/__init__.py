"""The event store: what was assigned, shown and answered, kept exactly once."""

from experiment.store.committer import Committer
from experiment.store.interface import Appended, EventStore
from experiment.store.open import open_store

__all__ = ["Appended", "Committer", "EventStore", "open_store"]

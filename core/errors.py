"""What can go wrong, one meaning each: every message says the value, the rule and the way out."""


class ScorefusionError(Exception):
    """Base of every error a user of scorefusion can cause. The command line prints it as one line and exits 2."""


class ConfigError(ScorefusionError):
    """A setting, formula, plan or feature spec is wrong; found at load, never while serving."""


class DataError(ScorefusionError):
    """A dataset breaks a rule: a missing column, a NaN, an empty log, a task with one class."""


class ArtefactError(ScorefusionError):
    """An artefact is missing, damaged, of another kind, or was not made by scorefusion."""


class RequestError(ScorefusionError):
    """One ranking or feedback request is wrong. `field` names the part of the body, `status` the HTTP answer."""

    def __init__(self, message: str, *, field: str, status: int = 422) -> None:
        super().__init__(message)
        self.field = field
        self.status = status


class StoreError(ScorefusionError):
    """The event store cannot be opened or written, for instance because another process holds its file."""

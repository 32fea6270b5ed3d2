"""A release: one ranker, the features it reads and the strategies fitted to its scores, checked to fit one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from core.arrays import Floats, Floats32, Ints
from core.drift import Reference
from core.errors import ConfigError
from core.events import Decision
from core.scores import ScoreTable


class Ranker(Protocol):
    """What the engine asks of a ranker: scores of encoded rows, `[n_items, n_tasks]`, in the order of `names`."""

    @property
    def names(self) -> tuple[str, ...]:
        """Tasks in the order of the score columns."""

    def score(self, user: Any, request: Any, items: Any) -> Floats32:
        """Scores of one user's encoded candidates."""


class FeatureSource(Protocol):
    """Where encoded features come from; unknown ids get a fallback row and are counted."""

    def user(self, user_id: str) -> tuple[Any, bool]:
        """The user's encoded row, and whether the user is known."""

    def request(self, scenario: str, context: Mapping[str, Any]) -> Any:
        """The request's encoded row; None where the ranker reads no request features."""

    def items(self, ids: Ints) -> tuple[Any, int]:
        """The candidates' encoded rows `[n]`, and how many of them are unknown."""

    def inline(self, ids: Ints, columns: Mapping[str, Any]) -> Any:
        """Rows `[n]` encoded from columns that came with the request."""


class Fused(Protocol):
    """What a strategy answers: the final scores `[n]`, what it multiplied by, how probable that choice was, why it is less than
    was asked for (`note`), and what a policy decided."""

    @property
    def final(self) -> Floats: ...
    @property
    def weights(self) -> Mapping[str, float]: ...
    @property
    def propensity(self) -> float: ...
    @property
    def note(self) -> str | None: ...
    @property
    def decision(self) -> Decision | None: ...


class Strategy(Protocol):
    """Per-task scores to final scores."""

    @property
    def requires(self) -> frozenset[str]:
        """Tasks whose scores it reads."""

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any]) -> Fused:
        """Final scores of one request's candidates."""


@dataclass(frozen=True)
class Release:
    """What is served together.

    Args:
        strategies: By the name that the plan uses.
        default: The strategy of everybody outside every experiment.
        versions: Artefact label by role: `ranker`, and each strategy's name.
        kinds: `formula`, `learned` or `policy` by strategy name; formula where it is not said.
        reference: How the ranker's scores lay when the strategies were fitted; drift is measured from it.
        profile: A user's raw columns by id, for policies whose state reads them; empty for an unknown user.

    Raises:
        ConfigError: A strategy needs a task that the ranker does not score, or the default is not among the strategies.
    """

    ranker: Ranker
    features: FeatureSource
    strategies: Mapping[str, Strategy]
    default: str
    versions: Mapping[str, str]
    kinds: Mapping[str, str] = field(default_factory=dict)
    profile: Callable[[str], Mapping[str, Any]] | None = None
    reference: Reference | None = None

    def __post_init__(self) -> None:
        names = self.ranker.names
        for name, strategy in self.strategies.items():
            missing = sorted(strategy.requires - set(names))
            if missing:
                raise ConfigError(f"strategy {name!r} needs task {missing[0]!r}; the ranker scores {', '.join(names)}")
        if self.default not in self.strategies:
            raise ConfigError(f"default strategy {self.default!r} is not one of {', '.join(self.strategies)}")

    def ladder(self, chosen: str) -> Sequence[str]:
        """Strategies to try for a request, best first: the chosen one, then simpler kinds, the default before others."""
        if chosen not in self.strategies:
            return (self.default,)
        level = _KINDS.index(self.kinds.get(chosen, "formula"))
        simpler = [n for n in self.strategies if n != chosen and _KINDS.index(self.kinds.get(n, "formula")) > level]
        simpler.sort(key=lambda n: (_KINDS.index(self.kinds.get(n, "formula")), n != self.default))
        rungs = [chosen, *simpler]
        if self.default not in rungs:
            rungs.append(self.default)
        return tuple(rungs)


_KINDS = ("policy", "learned", "formula")

"""What a recipe makes of files: a feature spec and the rows to train on, to choose by, and to judge on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.logs import LoggedDataset
from ranker.config import TrainConfig
from ranker.features import FeatureSpec


@dataclass(frozen=True)
class Recipe:
    """A data set ready to train.

    Args:
        train, valid, test: Learn from, choose by, judge once on; split by time where the data has time.
        items, users: The tables that serving looks features up in, one row an id, as of the end of the log.
        config: Settings found good on the validation rows, to start from.
        options: The networks' widths and dropout found good there, as `hidden` and `dropout`; see `options_for`.
        own: By architecture, options found good there for it alone, which go before those of all.
    """

    name: str
    spec: FeatureSpec
    train: LoggedDataset
    valid: LoggedDataset
    test: LoggedDataset
    items: LoggedDataset = field(default_factory=lambda: LoggedDataset({}))
    users: LoggedDataset = field(default_factory=lambda: LoggedDataset({}))
    config: TrainConfig = field(default_factory=TrainConfig, kw_only=True)
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, kw_only=True)

    def options_for(self, model: str) -> dict[str, Any]:
        """The recipe's options in the words of one architecture: same widths everywhere, spread over levels where it has levels.

        Its own options, if it has some, stand before them.

        >>> from core.tasks import TaskSet, TaskSpec
        >>> from ranker.features import Feature
        >>> log, spec = LoggedDataset({}), FeatureSpec([Feature("item_id")], TaskSet([TaskSpec("click")]))
        >>> recipe = Recipe("shop", spec, log, log, log, options={"hidden": (64, 32)}, own={"mmoe": {"n_experts": 4}})
        >>> recipe.options_for("ple"), recipe.options_for("mmoe")
        ({'levels': [[64], [32]]}, {'hidden': [64, 32], 'n_experts': 4})
        """
        return self._common(model) | dict(self.own.get(model, {}))

    def _common(self, model: str) -> dict[str, Any]:
        options = dict(self.options)
        hidden = options.pop("hidden", None)
        if hidden is None or model in WITHOUT_HIDDEN:
            return options
        if model in WITH_LEVELS:
            return options | {"levels": [[width] for width in hidden]}
        if model in PER_LEVEL:
            return options | {"hidden": list(hidden[:1])}
        if model in EQUAL_WIDTHS:
            return options | {"hidden": [max(hidden)] * len(hidden)}
        return options | {"hidden": list(hidden)}


WITH_LEVELS = ("ple", "ml_mmoe")  # architectures whose hidden widths are those of levels
PER_LEVEL = ("aesm2",)  # whose hidden widths are those of each level: one layer, so that two levels are as deep as the others
EQUAL_WIDTHS = ("sluice",)  # which mix layers, all of one width
WITHOUT_HIDDEN = ("wide",)

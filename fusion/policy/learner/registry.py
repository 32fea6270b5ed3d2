"""The algorithms by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.errors import ConfigError
from fusion.policy.learner.base import FusionConfig
from fusion.policy.learner.batchrl_mtf import BatchRlMtfConfig
from fusion.policy.learner.bc import BcConfig
from fusion.policy.learner.cql_sac import CqlSacConfig
from fusion.policy.learner.iql import IqlConfig
from fusion.policy.learner.td3 import Td3Config
from fusion.policy.learner.td3_bc import Td3BcConfig
from fusion.policy.learner.unified_rl import UnifiedRlConfig

ALGORITHMS: Final[Mapping[str, type[FusionConfig]]] = {
    "bc": BcConfig,
    "batchrl_mtf": BatchRlMtfConfig,
    "unified_rl": UnifiedRlConfig,
    "td3": Td3Config,
    "td3_bc": Td3BcConfig,
    "cql_sac": CqlSacConfig,
    "iql": IqlConfig,
}


def algorithm(name: str) -> FusionConfig:
    """A fresh configuration of an algorithm.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm {name!r}; algorithms are {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]()

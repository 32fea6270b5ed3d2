"""The networks: every architecture that stands alone, by name; din and the funnels (esmm, escm2) are built on one of them."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import ConfigError
from ranker.models.aesm2 import AESM2
from ranker.models.asymmetric import Asymmetric
from ranker.models.base import MultiTaskModel
from ranker.models.cgc import CGC
from ranker.models.cnn_max import CNNMax
from ranker.models.cross_stitch import CrossStitch
from ranker.models.customized import Customized
from ranker.models.dssm import DSSM
from ranker.models.dupn import DUPN
from ranker.models.ml_mmoe import MultiLevelMMoE
from ranker.models.mmoe import MMoE
from ranker.models.omoe import OMoE
from ranker.models.ple import PLE
from ranker.models.shared_bottom import SharedBottom
from ranker.models.single_task import SingleTask
from ranker.models.sluice import Sluice
from ranker.models.soft_sharing import SoftSharing
from ranker.models.wide import Wide
from ranker.models.wide_deep import WideDeep

NETWORKS: Mapping[str, type[MultiTaskModel]] = {
    "single_task": SingleTask,
    "shared_bottom": SharedBottom,
    "soft_sharing": SoftSharing,
    "cross_stitch": CrossStitch,
    "sluice": Sluice,
    "asymmetric": Asymmetric,
    "customized": Customized,
    "omoe": OMoE,
    "mmoe": MMoE,
    "ml_mmoe": MultiLevelMMoE,
    "cgc": CGC,
    "ple": PLE,
    "aesm2": AESM2,
    "dupn": DUPN,
    "cnn_max": CNNMax,
    "wide": Wide,
    "wide_deep": WideDeep,
    "dssm": DSSM,
}


def network(name: str, more: Mapping[str, type[MultiTaskModel]] | None = None) -> type[MultiTaskModel]:
    """A base to build on, by name: a network with towers, or one of `more`.

    Raises:
        ConfigError: It is none.
    """
    fit = {other: model for other, model in {**NETWORKS, **(more or {})}.items() if model.towered}
    if name not in fit:
        raise ConfigError(f"base {name!r} is no network to build on; choose one of {', '.join(fit)}")
    return fit[name]

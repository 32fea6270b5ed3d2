"""The networks: every architecture that stands alone, by name; funnels (esmm, escm2) are built on one of them."""

from __future__ import annotations

from collections.abc import Mapping

from ranker.models.aesm2 import AESM2
from ranker.models.asymmetric import Asymmetric
from ranker.models.base import MultiTaskModel
from ranker.models.cgc import CGC
from ranker.models.cnn_max import CNNMax
from ranker.models.cross_stitch import CrossStitch
from ranker.models.customized import Customized
from ranker.models.din import DIN
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
    "din": DIN,
    "dupn": DUPN,
    "cnn_max": CNNMax,
    "wide": Wide,
    "wide_deep": WideDeep,
    "dssm": DSSM,
}

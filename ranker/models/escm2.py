"""ESCM^2: ESMM with a debiased loss on the conditional, by inverse propensity or doubly robust (Wang et al., SIGIR 2022).

With o = parent happened, p = its predicted probability, e = CE(y, pCVR), e^ = CE(y^, pCVR) where a tower imputes y^:
IPS = mean(o e / p);  DR = mean(e^ + o (e - e^) / p) for pCVR, and mean(o (e - e^)^2 / p) for the tower (joint learning, Wang et
al., ICML 2019: neither term moves the other's part, or the prediction would chase the imputed error).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from ranker.heads import Outputs, Towers
from ranker.inputs import Parts
from ranker.models.base import Notes
from ranker.models.esmm import ESMM


class ESCM2(ESMM):
    """Options: ESMM's, `estimator` (`ips` or `dr`), `strength` (its weight), `clip` (least propensity), `imputation` (widths)."""

    def build(
        self,
        funnel: Mapping[str, str] | None = None,
        base: str = "shared_bottom",
        estimator: str = "ips",
        strength: float = 1.0,
        clip: float = 0.02,
        imputation: Sequence[int] = (32,),
        **options: Any,
    ) -> int:
        """The chained network; for `dr` also towers that impute each task's error."""
        if estimator not in ("ips", "dr"):
            raise ConfigError(f"estimator {estimator!r} is not one of ips, dr")
        if not 0 < clip <= 1:
            raise ConfigError(f"clip = {clip} must lie in (0, 1]: it is the least propensity divided by")
        self.estimator, self.strength, self.clip = estimator, strength, clip
        n_out = super().build(funnel, base, **options)
        scored = [task for task in self.item_tasks if task.kind != "multiclass"]
        self.imputation = Towers(scored, n_out, imputation) if estimator == "dr" else None
        return n_out

    def item_logits(self, parts: Parts, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """ESMM's, and the imputed errors beside them."""
        h = self.represent(parts, notes)
        if self.imputation is not None and torch.is_grad_enabled():
            scored = [at for at, task in enumerate(self.item_tasks) if task.kind != "multiclass"]
            notes.inspect["imputed"] = self.imputation((h if h.shape[0] == 1 else h[scored]).detach())[0].float()  # (B, S)
        logits, other = self.towers(h)
        return self.chain(logits, other, notes)

    def extra_loss(self, outputs: Outputs, values: Tensor, weights: Tensor) -> Tensor | None:
        """The debiased conditional loss of every child task."""
        logits = outputs.inspect["conditional"]  # (B, S)
        reach = self.log_products(logits).detach().exp()  # (B, S)
        names = list(self.tasks.scored)
        total = logits.new_zeros(())
        for child, parent in self.funnel.items():
            c, p = names.index(child), names.index(parent)
            c_all, p_all = self.tasks.names.index(child), self.tasks.names.index(parent)
            weight = weights[:, c_all] * (weights[:, p_all] > 0)  # (B,)
            odds = values[:, p_all] / reach[:, p].clamp(min=self.clip)  # o / p
            error = F.binary_cross_entropy_with_logits(logits[:, c], values[:, c_all], reduction="none")
            if self.estimator == "ips":
                row = odds * error
            else:
                guess = torch.sigmoid(outputs.inspect["imputed"][:, c])  # y^
                imputed = F.binary_cross_entropy_with_logits(logits[:, c], guess.detach(), reduction="none")
                fixed = F.binary_cross_entropy_with_logits(logits[:, c].detach(), guess, reduction="none")
                row = imputed + odds * (error - imputed) + odds * (error.detach() - fixed) ** 2
            total = total + (row * weight).sum() / weight.sum().clamp(min=1e-6)
        return self.strength * total

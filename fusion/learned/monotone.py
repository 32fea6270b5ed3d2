"""Learning the monotone network: weights are softplus of free numbers, so no step can make one negative."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch

from core.arrays import AnyArray, Floats
from fusion.calibrate import Calibration
from fusion.learned.inputs import Inputs
from fusion.learned.learner import one_of, with_defaults
from fusion.learned.network import POSITIVE, MonotoneNetwork
from fusion.learned.rows import Rows, pairs

DEFAULTS: Final[Mapping[str, Any]] = {
    "loss": "pairwise",
    "n_units": 4,
    "n_mixed": 8,
    "steps_a_round": 50,
    "batch": 1024,
    "learning_rate": 0.05,
}


class MonotoneLearner:
    """Adam on one of two losses.

    `pairwise`: the logistic loss of drawn pairs; `listwise`: cross-entropy between softmax of the final scores and the shares of
    relevance within a group (ListNet, Cao et al. 2007), groups drawn by their rows. Further options: n_units (an even number a
    task), n_mixed (even), steps_a_round, batch (pairs, or rows of groups), learning_rate.
    """

    def __init__(self, rows: Rows, inputs: Inputs, options: Mapping[str, Any], seed: int) -> None:
        self.options = with_defaults("monotone", DEFAULTS, options)
        self._listwise = one_of("monotone", self.options, "loss", ("pairwise", "listwise")) == "listwise"
        self._inputs, self._seed = inputs, seed
        self._pairs, self._rows = pairs(rows, seed), rows
        logits = inputs.unbounded(rows.x)
        self._mean, self._scale = logits.mean(axis=0), _inverse(logits.std(axis=0))
        self._s_mean, self._s_scale = rows.s.mean(axis=0), _inverse(rows.s.std(axis=0))
        self._z = torch.from_numpy(((logits - self._mean) * self._scale).astype(np.float32))  # (n, T)
        self._s = torch.from_numpy(((rows.s - self._s_mean) * self._s_scale).astype(np.float32))  # (n, C)
        n_units, n_mixed = (2 * max(1, self.options[name] // 2) for name in ("n_units", "n_mixed"))
        self._net = _Net(len(inputs.tasks), len(inputs.context), n_units, n_mixed, torch.Generator().manual_seed(seed))
        self._adam = torch.optim.Adam(self._net.parameters(), lr=self.options["learning_rate"])

    def round(self, number: int) -> None:
        """Some steps; their draws depend on the seed and the round only."""
        rng = np.random.default_rng([self._seed, number])
        draw = self._draw_lists if self._listwise else self._draw_pairs
        for loss in draw(rng):
            self._adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._adam.step()

    def _draw_pairs(self, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        better, worse, weight = self._pairs
        chance = np.cumsum(weight) / weight.sum()
        for _ in range(self.options["steps_a_round"]):
            drawn = np.minimum(np.searchsorted(chance, rng.random(self.options["batch"])), len(weight) - 1)
            rows = np.concatenate([better[drawn], worse[drawn]])
            high, low = self._net(self._z[rows], self._s[rows]).chunk(2)
            yield torch.nn.functional.softplus(low - high).mean()

    def _draw_lists(self, rng: np.random.Generator) -> Iterator[torch.Tensor]:
        groups = self._rows.groups
        lists = np.unique(np.searchsorted(groups, self._pairs.better, side="right") - 1)  # those with something to order
        first, size = groups[lists], groups[lists + 1] - groups[lists]
        worth = self._rows.relevance - np.repeat(np.minimum.reduceat(self._rows.relevance, groups[:-1]), np.diff(groups))
        n_lists = max(1, round(self.options["batch"] / size.mean()))
        for _ in range(self.options["steps_a_round"]):
            drawn = rng.choice(len(lists), n_lists, p=size / size.sum())
            rows = np.concatenate([np.arange(first[i], first[i] + size[i]) for i in drawn])
            group = torch.from_numpy(np.repeat(np.arange(n_lists), size[drawn]))
            target = torch.from_numpy(worth[rows])
            final = self._net(self._z[rows], self._s[rows]).double()
            final = final - final.max().detach()
            zero = torch.zeros(n_lists, dtype=torch.float64)
            cross = zero.index_add(0, group, target * final) / zero.index_add(0, group, target)
            yield (zero.index_add(0, group, final.exp()).log() - cross).mean()

    def strategy(self, calibration: Calibration | None = None) -> MonotoneNetwork:
        """The network so far."""
        arrays: dict[str, AnyArray] = {name: value.detach().numpy().copy() for name, value in self._net.weights().items()}
        arrays |= {"mean": self._mean, "scale": self._scale, "context_mean": self._s_mean, "context_scale": self._s_scale}
        return MonotoneNetwork(self._inputs, arrays, calibration)

    def state(self) -> dict[str, AnyArray]:
        """Free numbers and Adam's moments."""
        found = {f"free.{name}": value.detach().numpy().copy() for name, value in self._net.named_parameters()}
        for name, value in self._net.named_parameters():
            for key, moment in self._adam.state.get(value, {}).items():
                found[f"{key}.{name}"] = moment.detach().numpy().copy()
        return found

    def restore(self, state: Mapping[str, AnyArray]) -> None:
        """Go on from a state."""
        for name, value in self._net.named_parameters():
            value.data = torch.from_numpy(state[f"free.{name}"].copy())
            moments = {key: state.get(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if all(moment is not None for moment in moments.values()):
                self._adam.state[value] = {key: torch.from_numpy(np.array(moment)) for key, moment in moments.items()}


class _Net(torch.nn.Module):
    """The network of network.py while it learns."""

    def __init__(self, n_tasks: int, n_context: int, n_units: int, n_mixed: int, generator: torch.Generator) -> None:
        super().__init__()

        def free(*shape: int, at: float = 0.0, spread: float = 0.5) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(*shape, generator=generator) * spread + at)

        self.slope, self.lift = free(n_tasks, n_units), free(n_tasks, n_units, at=-4.0)
        self.shift, self.skip = free(n_tasks, n_units, spread=1.0), free(n_tasks, at=-4.0)
        self.mix, self.mix_shift, self.out = free(n_tasks, n_mixed, at=-1.0), free(n_mixed), free(n_mixed, at=-3.0)
        self.gate, self.gate_base = free(n_context, n_tasks, spread=0.01), free(n_tasks, at=1.0, spread=0.0)
        self.bend = free(n_context, n_tasks * n_units, spread=0.01)

    def weights(self) -> dict[str, torch.Tensor]:
        """All arrays by name, those that must not be negative made so."""
        positive = torch.nn.functional.softplus
        return {name: positive(value) if name in POSITIVE else value for name, value in self.named_parameters()}

    def forward(self, z: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Standardised scores `[n, T]` and context `[n, C]` to final scores `[n]`."""
        w = self.weights()
        bend = (s @ w["bend"]).view(len(s), *w["slope"].shape) if s.shape[1] else 0.0
        units = _two_sided(z[:, :, None] * w["slope"] + w["shift"] + bend)  # (n, T, J)
        h = z * w["skip"] + (units * w["lift"]).sum(2)  # (n, T)
        if s.shape[1]:
            h = h * _squareplus(w["gate_base"] + s @ w["gate"])
        return h.sum(1) + _two_sided(h @ w["mix"] + w["mix_shift"]) @ w["out"]


def _squareplus(z: torch.Tensor) -> torch.Tensor:
    return 0.5 * (z + torch.sqrt(z * z + 1.0))


def _two_sided(z: torch.Tensor) -> torch.Tensor:
    half = z.shape[-1] // 2
    root = torch.sqrt(z * z + 1.0)
    return 0.5 * (z + torch.cat([root[..., :half], -root[..., half:]], -1))


def _inverse(spread: Floats) -> Floats:
    return 1.0 / np.where(spread > 1e-12, spread, 1.0)

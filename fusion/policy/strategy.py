"""The policy strategy: a state, a network that turns it into the formula's parameters, exploration, and a fallback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch

from core.arrays import AnyArray, Floats, Floats32
from core.artefacts import Artefact, tensors
from core.errors import ConfigError, DataError
from core.events import Decision
from core.scores import ScoreTable
from fusion import calibrate
from fusion.calibrate import Calibration
from fusion.formula import Formula
from fusion.fused import NO_CONTEXT, Fused
from fusion.policy.exploration import Exploration, uniforms_of
from fusion.policy.networks import PolicyNet, build
from fusion.policy.quick import answerer
from fusion.policy.state import NoState, StateSpec


class PolicyStrategy:
    """One action for all candidates of a request: state -> network -> action in [-1, 1] -> parameters of the formula.

    The context holds `request_id`, the user's row under `user`, and the session so far under the names the state declares. The
    numbers of exploration and of a network that samples come from the request's id alone, so a request always has one answer.
    Without a state the fallback's parameters are used and the answer says why in `note`.

    Args:
        formula: Its parameters are the action.
        ranges: What -1 and 1 stand for, by parameter.
        state: Its features in the order the network reads them.
        network: Turns states `[B, n_obs]` into actions `[B, n_params]`; see `fusion.policy.networks`.
        fallback: The parameters without a state, by name, within their ranges: hand-set weights.
        exploration: How to draw around the network's action; None to do what it says.
        calibration: Of the scores, before anything reads them.
    """

    kind: ClassVar[str] = "policy"

    def __init__(
        self,
        formula: Formula,
        ranges: Mapping[str, tuple[float, float]],
        state: StateSpec,
        network: PolicyNet,
        fallback: Mapping[str, float],
        exploration: Exploration | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.formula, self.state, self.network = formula, state, network.eval()
        self.exploration, self.calibration = exploration, calibration
        self.ranges = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
        if tuple(self.ranges) != tuple(formula.params):
            raise ConfigError(
                f"ranges are for {', '.join(self.ranges)}; the formula's parameters are {', '.join(formula.params)}"
            )
        self.low, self.high = np.array(list(self.ranges.values()), float).reshape(-1, 2).T
        self._requires = formula.requires | set(state.tasks)
        self._span = 0.5 * (self.high - self.low)
        if not (self.low < self.high).all():
            raise ConfigError(f"ranges {self.ranges} must each have their low below their high")
        self.fallback = dict(formula.check_params(fallback))
        outside = [n for n, v in self.fallback.items() if not self.ranges[n][0] - 1e-9 <= float(v) <= self.ranges[n][1] + 1e-9]
        if outside:
            name = outside[0]
            raise ConfigError(f"fallback {name!r} {self.fallback[name]} lies outside its range {self.ranges[name]}")
        with torch.inference_mode():
            shape = tuple(self.network.act(torch.zeros(1, len(state)), torch.Generator().manual_seed(0)).shape)
        if shape != (1, len(self.low)):
            raise ConfigError(f"the network answers {shape} to a state of {len(state)}; the formula needs (1, {len(self.low)})")
        self._answer = answerer(self.network)

    @property
    def requires(self) -> frozenset[str]:
        """The tasks the formula and the state read."""
        return self._requires

    @property
    def user_columns(self) -> tuple[str, ...]:
        """Columns of the user table that the context's `user` must hold."""
        return self.state.user_columns

    def fuse(self, scores: ScoreTable, context: Mapping[str, Any] = NO_CONTEXT) -> Fused:
        """Final scores for the candidates of one request.

        Raises:
            ConfigError: The scores lack a task.
            DataError: The network's answer or a result is not finite.
        """
        if self.calibration is not None:
            scores = self.calibration.apply(scores, [task for task in scores.tasks if task in self.requires])
        if not self._requires.issubset(scores.tasks):
            missing = min(self._requires - set(scores.tasks))
            raise ConfigError(f"the policy needs task {missing!r}; the scores hold {', '.join(scores.tasks)}")
        if not len(scores):
            return Fused(np.zeros(0), self.fallback)
        try:
            decision, density = self.decide(self._see(scores, context), str(context.get("request_id", "")))
        except NoState as error:
            final, n_nonfinite = self.formula.final(scores, self.fallback, context)
            return Fused(final, dict(self.fallback), 1.0, n_nonfinite, f"no_state:{error.column}")
        weights = self.weights(decision.action)
        final, n_nonfinite = self.formula.final(scores, weights, context)
        return Fused(final, weights, density, n_nonfinite, None, decision)

    def decide(self, state: Floats32, request_id: str) -> tuple[Decision, float]:
        """What is done in a state, and with what density: 1 without exploration."""
        baseline: Floats32 = np.minimum(np.maximum(self._answer(state, request_id), -1), 1)
        if not np.isfinite(baseline).all():
            raise DataError(f"the policy's network answers {baseline.tolist()}, which is not finite")
        if self.exploration is None:
            return Decision(state, baseline, baseline), 1.0
        drawn = self.exploration.draw(baseline[None], uniforms_of(request_id, 1 + len(baseline), "explore")[None])
        component = self.exploration.names[int(drawn.component[0])]
        box = self.exploration.box
        return Decision(state, drawn.action[0], baseline, component, float(drawn.component_density[0]), box), float(
            drawn.density[0]
        )

    def weights(self, action: AnyArray) -> dict[str, float]:
        """The formula's parameters that an action `[n_params]` stands for."""
        values: Floats = self.low + (np.asarray(action, float) + 1) * self._span
        return dict(zip(self.ranges, values.tolist(), strict=True))

    def action(self, weights: Mapping[str, float]) -> Floats32:
        """The inverse of `weights`, `[n_params]`."""
        values = np.array([weights[name] for name in self.ranges])
        action: Floats32 = (2 * (values - self.low) / (self.high - self.low) - 1).astype(np.float32)
        return action

    def _see(self, scores: ScoreTable, context: Mapping[str, Any]) -> Floats32:
        if self.exploration is not None and not context.get("request_id"):
            raise NoState("request_id")
        return self.state.see(context.get("user") or {}, context, scores)

    def to_files(self) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Configuration and files for an artefact."""
        config: dict[str, Any] = {
            "formula": self.formula.to_json(),
            "ranges": [[name, *bounds] for name, bounds in self.ranges.items()],
            "state": self.state.to_json(),
            "network": self.network.to_config(),
            "fallback": self.fallback,
        }
        files = {"network.safetensors": tensors({name: value.numpy() for name, value in self.network.state_dict().items()})}
        if self.exploration is not None:
            config["exploration"] = [[name, part] for name, part in self.exploration.to_json().items()]
        about, more = calibrate.to_files(self.calibration)
        return {**config, **about}, {**files, **more}

    @classmethod
    def from_artefact(cls, artefact: Artefact) -> Self:
        """Read what `to_files` wrote."""
        config = artefact.config
        network = build(config["network"])
        state = {name: torch.from_numpy(np.array(value)) for name, value in artefact.read_tensors("network.safetensors").items()}
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ConfigError(f"the network's tensors do not fit its configuration: {error}") from error
        return cls(
            Formula.from_json(config["formula"]),
            {name: (low, high) for name, low, high in config["ranges"]},
            StateSpec.from_json(config["state"]),
            network,
            config["fallback"],
            Exploration.from_json(dict(config["exploration"])) if "exploration" in config else None,
            calibrate.from_artefact(artefact),
        )

"""Each task's gradient on the shared dense parameters, which GradNorm, the aggregators, PE-LTR and the report read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from ranker.models.base import MultiTaskModel


def shared_parameters(model: MultiTaskModel, *, last: bool = False) -> list[nn.Parameter]:
    """Parameters of the layers that several tasks share, never an embedding table; of the last such layer when asked.

    Raises:
        ConfigError: Nothing but embeddings is shared.
    """
    layers = model.shared_layers()
    found: list[nn.Parameter] = []
    for layer in layers[-1:] if last else layers:
        found += [p for p in layer.parameters() if not any(p is q for q in found)]
    if not found:
        raise ConfigError(
            f"{type(model).__name__} shares no dense layer between tasks; choose balance fixed, decay, dwa or uncertainty"
        )
    return found


def task_gradients(losses: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """One row a task, `(K, P)`; zeros where a task does not reach a parameter. The graph stays for the step itself."""
    rows = []
    for loss in losses:
        grads = torch.autograd.grad(loss, list(parameters), retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in zip(grads, parameters, strict=True)]
        rows.append(torch.cat(flat))
    return torch.stack(rows)


def cosines(gradients: Tensor) -> Tensor:
    """Cosine of every two tasks' gradients, `(K, K)`; NaN for a task that does not reach the shared layers.

    >>> cosines(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]))[0].tolist()
    [1.0, 0.0, -1.0]
    """
    norm = gradients.norm(dim=1, keepdim=True)
    unit = torch.where(norm > 0, gradients / norm, torch.nan)
    return unit @ unit.T

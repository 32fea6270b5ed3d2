"""PE-LTR: weights of a Pareto-stationary step under lower bounds (Lin et al., RecSys 2019).

min_w |sum_k w_k g_k|^2 subject to sum w = 1, w_k >= c_k, g_k the tasks' gradients on the shared dense parameters; solved exactly
as non-negative least squares in w - c, with the equality as a heavy row.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from core.arrays import Floats
from core.errors import ConfigError
from core.tasks import TaskSet
from ranker.balance.fixed import Fixed
from ranker.balance.gradients import shared_parameters, task_gradients
from ranker.models.base import MultiTaskModel


class Pareto(Fixed):
    """Options: `bounds` (c by task, 0 where absent, their sum at most 1; half an equal share each when none is given).

    With no bound at all the task of the longest gradient is all but dropped. The step uses K w, so that it keeps its size.
    """

    def __init__(self, tasks: TaskSet, model: MultiTaskModel, bounds: Mapping[str, float] | None = None) -> None:
        super().__init__(tasks, model)
        given = dict.fromkeys(tasks.names, 0.5 / len(tasks)) if bounds is None else dict(bounds)
        for name, bound in given.items():
            if name not in tasks.names:
                raise ConfigError(f"bound of unknown task {name!r}; tasks are {', '.join(tasks.names)}")
            if not 0 <= bound <= 1:
                raise ConfigError(f"bound {bound!r} of task {name!r} must lie in [0, 1]")
        if sum(given.values()) > 1:
            raise ConfigError(f"bounds sum to {sum(given.values()):g}; weights sum to 1, so bounds sum to at most 1")
        self.bounds = np.array([float(given.get(name, 0.0)) for name in tasks.names])
        self.shared = shared_parameters(model)

    def backward(self, losses: Tensor, aux: Tensor | None) -> None:
        """Solve for the weights, then backpropagate the weighted sum."""
        gradients = self.team.sum(task_gradients(losses, self.shared))  # (K, P)
        gram = (gradients @ gradients.T).double().numpy()
        self.weight = torch.from_numpy(len(losses) * pareto_weights(gram, self.bounds)).float()
        super().backward(losses, aux)


def pareto_weights(gram: Floats, bounds: Floats) -> Floats:
    """The minimiser of w' gram w under sum w = 1 and w >= bounds; `(K, K)` and `(K,)` to `(K,)`.

    >>> pareto_weights(np.diag([1.0, 4.0]), np.zeros(2)).round(6).tolist()
    [0.8, 0.2]
    >>> pareto_weights(np.diag([1.0, 4.0]), np.array([0.0, 0.5])).round(6).tolist()
    [0.5, 0.5]
    """
    values, vectors = np.linalg.eigh(gram)
    size = float(values.max())
    if size <= 0:
        return np.full(len(bounds), 1 / len(bounds))
    root = (vectors * np.sqrt(np.maximum(values, 0) / size)).T  # (K, K): |root w|^2 = w' gram w / size
    heavy = 1e4
    rest = 1 - bounds.sum()
    system = np.vstack([root, np.full(len(bounds), heavy)])
    excess = nnls(system, np.r_[-root @ bounds, heavy * rest])[0]
    total = excess.sum()
    return np.asarray(bounds + (excess * rest / total if total > 0 else rest / len(bounds)))

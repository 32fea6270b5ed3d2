"""Every architecture keeps every contract, and a broken one is caught by the check that is there for it."""

import functools

import pytest
import torch
from torch import Tensor

from core.tasks import TaskSet
from ranker import checks, models
from ranker.encoder import Layout
from ranker.inputs import Parts
from ranker.models.base import MultiTaskModel, Notes
from ranker.models.shared_bottom import SharedBottom


def make(name: str, layout: Layout, tasks: TaskSet) -> MultiTaskModel:
    return models.make(name, layout, tasks)


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", models.MODELS)
def test_model_keeps(name: str, check: checks.Check) -> None:
    check(functools.partial(make, name))


@pytest.mark.parametrize("name", [name for name, model in models.MODELS.items() if model.towered])
def test_tower_sizes(name: str) -> None:
    """Any size runs, none at all gets its gradients too, and a larger tower has more numbers."""
    sizes = {}
    for towers in ((), (8,), (64, 32)):
        made: checks.Make = functools.partial(_with_towers, name, towers)
        checks.check_shapes(made)
        sizes[towers] = sum(p.numel() for p in checks.Example(made, n=8).model.parameters())
    assert sizes[(8,)] < sizes[(64, 32)]
    checks.check_gradients(functools.partial(_with_towers, name, ()))


def _with_towers(name: str, towers: tuple[int, ...], layout: Layout, tasks: TaskSet) -> MultiTaskModel:
    return models.make(name, layout, tasks, {"towers": towers})


class Forgetful(SharedBottom):
    """Reads the context of the joint form only: in split form it forgets the user."""

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        if parts.split:
            parts = Parts(torch.zeros_like(parts.context), parts.item, parts.sequences, parts.projected)
        return super().represent(parts, notes)


class Crowded(SharedBottom):
    """Lets a row see its neighbours."""

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        h = super().represent(parts, notes)
        return h + h.cumsum(1)


class Idle(SharedBottom):
    """Holds a layer that nothing reads."""

    def build(self) -> int:  # type: ignore[override]  # a broken model on purpose
        width = super().build()
        self.spare = torch.nn.Linear(2, 2)
        return width


class Stubborn(SharedBottom):
    """Says the same whatever it reads."""

    def represent(self, parts: Parts, notes: Notes) -> Tensor:
        return super().represent(parts, notes).detach() * 0


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Forgetful, checks.check_split_equals_joint),
        (Crowded, checks.check_permutation),
        (Idle, checks.check_gradients),
        (Stubborn, checks.check_gradients),
    ],
)
def test_a_broken_model_is_caught(broken: type[MultiTaskModel], check: checks.Check) -> None:
    with pytest.raises(AssertionError):
        check(broken)

"""Architectures that are special cases of one another give the same logits, number for number."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.tasks import TaskSet, TaskSpec
from ranker import checks, models
from ranker.checks import Example
from ranker.models.base import MultiTaskModel
from ranker.models.soft_sharing import SoftSharing

PLAIN = TaskSet([TaskSpec("click"), TaskSpec("buy"), TaskSpec("watch_s", "regression", unit_of_measure="s")])


def example(name: str, tasks: TaskSet = checks.TASKS, **options: object) -> Example:
    return Example(lambda layout, given: models.make(name, layout, given, options), tasks)


def logits(one: Example) -> Tensor:
    return one.model.run(one.rows).logits


def adopt(model: MultiTaskModel, state: dict[str, Tensor]) -> None:
    """Load weights, all of which must be there under these names."""
    own = model.state_dict()
    assert set(own) == set(state)
    model.load_state_dict(state)


def test_omoe_is_mmoe_with_tied_gates() -> None:
    omoe, mmoe = example("omoe"), example("mmoe")
    state = dict(omoe.model.state_dict())
    for part in ("weight", "bias"):
        gate = state[f"gates.first.{part}"]
        state[f"gates.first.{part}"] = torch.cat([gate] * 3, -1)
    adopt(mmoe.model, state)
    assert torch.allclose(logits(omoe), logits(mmoe), atol=1e-6)


@pytest.mark.parametrize(("n_specific", "n_shared"), [(1, 2), (2, 1), (1, 1), (1, 0), (0, 3)])
def test_cgc_is_ple_with_one_level(n_specific: int, n_shared: int) -> None:
    sizes: dict[str, Any] = {"n_specific": n_specific, "n_shared": n_shared}
    cgc, ple = example("cgc", hidden=(16, 8), **sizes), example("ple", levels=((16, 8),), **sizes)
    renamed = {"experts.": "first.", "gates.": "first_gates."}
    state = {}
    for key, value in cgc.model.state_dict().items():
        prefix = next((p for p in renamed if key.startswith(p)), None)
        state[key if prefix is None else renamed[prefix] + key[len(prefix) :]] = value
    adopt(ple.model, state)
    assert torch.allclose(logits(cgc), logits(ple), atol=1e-6)


def test_cgc_without_own_experts_is_mmoe() -> None:
    cgc, mmoe = example("cgc", n_specific=0, n_shared=4), example("mmoe", n_experts=4)
    adopt(mmoe.model, {k.replace("gates.", "gates.first."): v for k, v in cgc.model.state_dict().items()})
    assert torch.allclose(logits(cgc), logits(mmoe), atol=1e-6)


def test_multi_level_mmoe_with_one_level_is_mmoe() -> None:
    deep, mmoe = example("ml_mmoe", n_experts=3, levels=((16, 8),)), example("mmoe", n_experts=3, hidden=(16, 8))
    names = {"first.": "experts.", "gates.0.": "gates."}
    state = {}
    for key, value in deep.model.state_dict().items():
        prefix = next((p for p in names if key.startswith(p)), "")
        state[names.get(prefix, "") + key[len(prefix) :]] = value
    adopt(mmoe.model, state)
    assert torch.allclose(logits(deep), logits(mmoe), atol=1e-6)


def test_aesm2_with_every_expert_and_no_noise_is_mmoe() -> None:
    """With no scenario level and no auxiliary loss; the group embedding is the gate's bias."""
    aesm2 = example(
        "aesm2", scenarios=(), n_experts=4, hidden=(16, 8), n_specific=4, n_shared=4, noise=False, concentration=0.0, load=0.0
    )
    mmoe = example("mmoe", n_experts=4, hidden=(16, 8))
    state = {}
    for key, value in aesm2.model.state_dict().items():
        if key == "levels.0.gate.bias":
            level = aesm2.model.get_submodule("levels.0")
            assert isinstance(level.group, Tensor)
            assert isinstance(level.of_group, Tensor)
            value = value + torch.bmm(level.group, level.of_group).flatten()
        if key not in ("levels.0.group", "levels.0.of_group"):
            state[key.replace("levels.0.gate.", "gates.first.").replace("levels.0.experts.", "experts.")] = value
    adopt(mmoe.model, state)
    aesm2.model.train()
    assert torch.allclose(logits(aesm2), logits(mmoe), atol=1e-6)
    assert aesm2.model.run(aesm2.rows).aux is None


def test_soft_sharing_without_strength_is_single_task() -> None:
    soft, single = example("soft_sharing", strength=0.0), example("single_task")
    adopt(single.model, soft.model.state_dict())
    soft.model.train()
    outputs = soft.model.run(soft.rows)
    assert torch.equal(outputs.logits, logits(single))
    assert outputs.aux is None


def test_soft_sharing_penalty_is_the_sum_over_pairs() -> None:
    for distance, power in (("l2", 2), ("l1", 1)):
        model = example("soft_sharing", hidden=(6, 4), distance=distance).model
        assert isinstance(model, SoftSharing)
        layer, first = model.bodies.rest.layers[0], model.bodies.first
        assert first.mask is not None
        assert isinstance(layer.weight, Tensor)
        nets = []
        for k in range(3):
            columns = slice(k * 6, (k + 1) * 6)
            read = first.mask[:, k * 6] > 0
            nets.append(torch.cat([first.weight[read, columns].flatten(), layer.weight[k].flatten()]))
        pairs = [(nets[a] - nets[b]).abs().pow(power).sum() for a in range(3) for b in range(a)]
        assert model.penalty().item() == pytest.approx(sum(p.item() for p in pairs), rel=1e-4)


def test_cross_stitch_with_identity_is_separate_networks_on_shared_embeddings() -> None:
    stitched, own = example("cross_stitch", own=1.0, hidden=(16, 8)), example("asymmetric", reads={}, hidden=(16, 8))
    state = {}
    for key, value in stitched.model.state_dict().items():
        if not key.startswith("alphas"):
            state[key.replace("first.first.", "bottoms.first.").replace("rest.0.layers.0.", "bottoms.rest.layers.0.")] = value
    adopt(own.model, state)
    assert torch.allclose(logits(stitched), logits(own), atol=1e-6)


@pytest.mark.parametrize("base", ["shared_bottom", "mmoe", "ple", "single_task", "aesm2"])
def test_esmm_probability_is_the_product_along_the_funnel(base: str) -> None:
    tasks = TaskSet([TaskSpec("click"), TaskSpec("cart"), TaskSpec("buy"), TaskSpec("skip")])
    spec_log = checks.example_log(64, 0)
    rng = np.random.default_rng(0)
    cart = spec_log["click"] * (rng.random(64) < 0.5)
    extra = {"cart": cart, "buy": cart * (rng.random(64) < 0.5), "skip": 1 - spec_log["click"]}
    options = {"funnel": {"buy": "cart", "cart": "click"}, "base": base}
    one = Example(lambda layout, given: models.make("esmm", layout, given, options), tasks, log=spec_log.with_columns(extra))
    outputs = one.model.run(one.rows)
    p = torch.sigmoid(outputs.logits)
    conditional = torch.sigmoid(outputs.inspect["conditional"])
    assert torch.allclose(p[:, 0], conditional[:, 0])
    assert torch.allclose(p[:, 1], conditional[:, 0] * conditional[:, 1], rtol=1e-4)
    assert torch.allclose(p[:, 2], conditional[:, :3].prod(1), rtol=1e-4)
    assert torch.allclose(p[:, 3], conditional[:, 3])

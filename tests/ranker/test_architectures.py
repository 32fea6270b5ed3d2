"""What sets each architecture apart, shown on it: selection, funnels, frozen rows, crosses, factors, penalties."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker import checks, models
from ranker.batches import pack
from ranker.checks import Example
from ranker.encoder import Encoder
from ranker.features import Feature, FeatureSpec
from ranker.inputs import Parts
from ranker.models.aesm2 import SelectionLevel
from ranker.models.base import Notes
from ranker.models.dssm import DSSM
from ranker.models.dupn import DUPN
from ranker.models.sluice import Sluice
from ranker.targets import Scale
from ranker.train import TrainConfig, train

FUNNEL = TaskSet([TaskSpec("click"), TaskSpec("buy")])


def example(name: str, tasks: TaskSet = checks.TASKS, log: LoggedDataset | None = None, **options: object) -> Example:
    return Example(lambda layout, given: models.make(name, layout, given, options), tasks, log=log)


def with_buys() -> LoggedDataset:
    log = checks.example_log(64, 0)
    return log.with_columns({"buy": log["click"] * (np.arange(64) % 3 == 0)})


# aesm2 ----------------------------------------------------------------------------------------------------------------


class Given(nn.Module):
    """A gate that says what it is given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, z: Tensor) -> Tensor:
        return self.logits.flatten()[None].expand(z.shape[0], -1)


class Constants(nn.Module):
    """Expert k gives 10^k."""

    def forward(self, z: Tensor) -> Tensor:
        n, rows, _ = z.shape
        return (10.0 ** torch.arange(n))[:, None, None].expand(n, rows, 1)


def test_selection_by_hand() -> None:
    """Expert 0 is group 0's, expert 1 group 1's, expert 2 is common to both; each group takes its own one and the common one."""
    logits = torch.tensor([[3.0, 0.0, 1.0], [0.0, 3.0, 1.0]])  # (m, n)
    level = SelectionLevel(2, 3, 1, 1, Given(logits), Constants(), 4, noise=False)
    level.concentration, level.load = 1.0, 0.0
    with torch.no_grad():
        level.group.zero_()
    notes = Notes()
    out = level(torch.zeros(2, 1), None, notes, "task")  # (m, B, 1)
    own, common = np.exp(3) / (np.exp(3) + np.exp(1)), np.exp(1) / (np.exp(3) + np.exp(1))
    assert out[0, :, 0].tolist() == pytest.approx([own * 1 + common * 100] * 2, rel=1e-5)
    assert out[1, :, 0].tolist() == pytest.approx([own * 10 + common * 100] * 2, rel=1e-5)
    assert notes.inspect["specific:task"][0].int().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert notes.inspect["shared:task"][0].int().tolist() == [[0, 0, 1]]
    concentration = -2 * np.log(np.exp(3) / (np.exp(3) + 1))  # KL(one-hot || P) of the two; the common expert's KL is 0
    assert notes.aux[0].item() == pytest.approx(concentration, rel=1e-4)
    alone = level(torch.zeros(2, 1), torch.tensor([0, 1]), Notes(), "scenario")  # (1, B, 1): each row's own group
    assert alone[0, :, 0].tolist() == pytest.approx([own * 1 + common * 100, own * 10 + common * 100], rel=1e-5)


def test_load_loss_is_zero_when_experts_are_used_alike() -> None:
    level = SelectionLevel(1, 3, 3, 3, Given(torch.zeros(1, 3)), Constants(), 4, noise=False)
    level.load = 1.0
    with torch.no_grad():
        level.group.zero_()
    notes = Notes()
    level(torch.zeros(2, 1), None, notes, "task")
    assert notes.aux[0].item() == pytest.approx(0, abs=1e-6)


def test_noise_is_for_training_only() -> None:
    one = example("aesm2")
    a, b = (one.model.run(one.rows).logits for _ in range(2))
    assert torch.equal(a, b)
    one.model.train()
    a, b = (one.model.run(one.rows).logits for _ in range(2))
    assert not torch.equal(a, b)


def test_scenarios_reach_only_their_own_rows() -> None:
    """With every expert selected, one scenario's gate changes the scores of its own rows and no others."""
    one = example("aesm2", n_specific=6)
    before = one.model.run(one.rows).logits
    level = one.model.get_submodule("levels.0")
    assert isinstance(level, SelectionLevel)
    index = one.encoder.vocabularies["scenario"].encode(np.array([1]))[0] - 2  # after the rows for missing and unknown
    with torch.no_grad():
        level.group[index] += 100.0
    changed = (one.model.run(one.rows).logits != before).any(1).numpy()
    assert changed.any()
    assert not changed[one.log["scenario"] != 1].any()


# esmm, escm2 ----------------------------------------------------------------------------------------------------------


def test_esmm_conditional_gets_no_loss_of_its_own() -> None:
    """Where nobody clicks the conditional tower still learns, through the product, from rows without a click."""
    one = example("esmm", FUNNEL, with_buys())
    outputs = one.model.run(one.rows)
    conditional = outputs.inspect["conditional"]
    conditional.retain_grad()
    torch.autograd.backward(F.binary_cross_entropy_with_logits(outputs.logits[:, 1], one.rows.values[:, 1]))
    assert conditional.grad is not None
    assert (conditional.grad[:, 1] != 0).all()


@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_escm2_loss_by_hand(estimator: str) -> None:
    one = example("escm2", FUNNEL, with_buys(), estimator=estimator, strength=2.0, clip=0.4)
    outputs = one.model.run(one.rows)
    z = outputs.inspect["conditional"].detach()
    click, buy = one.rows.values[:, 0], one.rows.values[:, 1]
    propensity = torch.sigmoid(z[:, 0]).clamp(min=0.4)
    error = F.binary_cross_entropy(torch.sigmoid(z[:, 1]), buy, reduction="none")
    if estimator == "ips":
        expected = (click * error / propensity).mean()
    else:
        guess = torch.sigmoid(outputs.inspect["imputed"][:, 1].detach())
        imputed = F.binary_cross_entropy(torch.sigmoid(z[:, 1]), guess, reduction="none")
        gap = error - imputed
        expected = (imputed + click * gap / propensity).mean() + (click * gap**2 / propensity).mean()
    found = one.model.extra_loss(outputs, one.rows.values, one.rows.weights)
    assert found is not None
    assert found.item() == pytest.approx(2 * expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"funnel": {"buy": "cart"}}, "'cart' is no binary item task"),
        ({"funnel": {"buy": "click", "click": "buy"}}, "its own ancestor"),
        ({"base": "wide"}, "no network to build on"),
        ({"base": "esmm"}, "no network to build on"),
        ({"hiden": 3}, "unknown option 'hiden'"),
    ],
)
def test_wrong_funnels_are_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        example("esmm", FUNNEL, with_buys(), **options)


def test_a_funnel_refuses_a_sample_space() -> None:
    with pytest.raises(ConfigError, match="remove its sample_space"):
        example("esmm", funnel={"like": "click"})


# sharing --------------------------------------------------------------------------------------------------------------


def test_sluice_penalty_is_zero_for_orthogonal_subspaces() -> None:
    model = example("sluice", hidden=(4, 4)).model
    assert isinstance(model, Sluice)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and "first" in name:
                parameter.zero_()
                for column in range(parameter.shape[1]):
                    parameter[column % parameter.shape[0], column] = 1
    layer = model.rest[0].get_parameter("layers.0.weight")
    with torch.no_grad():
        layer.copy_(torch.eye(4).expand_as(layer))
    assert model.penalty().item() == 0
    with torch.no_grad():
        layer.fill_(1.0)
    assert model.penalty().item() == pytest.approx(3 * 2 * 2 * 4.0**2)  # 3 tasks, 2 x 2 pairs of columns, (1 . 1)^2 = 16


def test_asymmetric_reads_one_way() -> None:
    """Like reads click's bottom, click does not read like's."""
    for combine in ("concat", "sum", "mean"):
        one = example("asymmetric", reads={"like": ["click"]}, combine=combine)
        before = one.model.run(one.rows).logits
        with torch.no_grad():
            weight = one.model.get_parameter("bottoms.rest.layers.0.weight")
            weight[0] += 1.0  # click's bottom
        moved = (one.model.run(one.rows).logits != before).any(0)
        assert moved.tolist() == [True, True, False]
        with torch.no_grad():
            weight[1] += 1.0  # like's bottom
        again = one.model.run(one.rows).logits
        with torch.no_grad():
            weight[1] -= 2.0
        assert (one.model.run(one.rows).logits != again).any(0).tolist() == [False, True, False]


# wide, dssm -----------------------------------------------------------------------------------------------------------


def test_wide_logit_is_a_sum_of_weights() -> None:
    """Adding one to an id's weight for a task adds one to that task's logit in the rows of this id, and nothing else."""
    one = example("wide")
    before = one.model.run(one.rows).logits
    item = int(one.log["item_id"][0])
    row = one.encoder.layout.offsets["item_id"] + one.encoder.vocabularies["item_id"].encode(np.array([item]))[0]
    table = one.model.inputs.weight(one.model.layout.sparse["item"][0].dim)
    with torch.no_grad():
        table[row, 1] += 1
    gain = one.model.run(one.rows).logits - before
    seen = np.array([list(h)[-5:].count(item) / len(list(h)[-5:]) for h in one.log["seen"]])  # mean pooling of the history
    expected = (one.log["item_id"] == item) + seen
    assert gain[:, 1].detach().numpy() == pytest.approx(expected, abs=1e-5)
    assert not gain[:, [0, 2]].any()


@pytest.mark.parametrize("crosses", [(), (("user_id", "item_id"),)])
def test_a_cross_learns_what_single_ids_cannot(crosses: tuple[tuple[str, str], ...]) -> None:
    """Click = parity of user and item: logistic regression is blind to it without the cross."""
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 4, 4000), rng.integers(0, 4, 4000)
    log = LoggedDataset({"user_id": user, "item_id": item, "click": ((user + item) % 2).astype(float)})
    spec = FeatureSpec([Feature("user_id", side="user"), Feature("item_id")], TaskSet([TaskSpec("click")]))
    made = train(
        spec,
        "wide",
        train=log.take(np.arange(3000)),
        valid=log.take(np.arange(3000, 4000)),
        config=TrainConfig(epochs=3, batch_size=100, learning_rate=0.05),
        options={"crosses": crosses, "cross_rows": 1000},
        progress=False,
    )
    assert (made.metrics["click"]["auc"] > 0.95) == bool(crosses)


def test_dssm_scores_from_two_indexed_sides() -> None:
    one = example("dssm")
    assert isinstance(one.model, DSSM)
    parts = one.model.inputs.joint(one.rows.ids, one.rows.dense, one.rows.lists)
    user, item = one.model.vectors(parts)
    assert user.norm(dim=-1).detach().numpy() == pytest.approx(1, abs=1e-5)
    logits = torch.einsum("kbh,kbh->bk", user, item) * one.model.scale + one.model.bias
    assert torch.allclose(one.model.run(one.rows).logits, logits, atol=1e-5)


# dupn -----------------------------------------------------------------------------------------------------------------


def behaviours() -> LoggedDataset:
    log = checks.example_log(64, 0)
    kinds = np.empty(64, object)
    for row, history in enumerate(log["history"]):
        kinds[row] = np.arange(len(history)) % 3
    return log.with_columns({"kinds": kinds})


def dupn(**options: Any) -> tuple[DUPN, Parts]:
    tasks = TaskSet([TaskSpec("click"), TaskSpec("watch_s", "regression"), TaskSpec("grade", "multiclass", "user", n_classes=3)])
    spec = FeatureSpec(
        [
            Feature("age", kind="dense", side="user"),
            Feature("history", kind="sequence", side="user", shares="item_id", max_len=5, pooling="none"),
            Feature("kinds", kind="sequence", side="user", max_len=5, pooling="none", dim=4),
            Feature("item_id"),
            Feature("tag", dim=4, column="scenario"),
            Feature("price", kind="dense"),
        ],
        tasks,
    )
    log = behaviours()
    encoder = Encoder.fit(spec, log)
    rows = pack(encoder, log, {"watch_s": Scale.fit("standard", log["watch_s"])})
    torch.manual_seed(0)
    model = models.make("dupn", encoder.layout, tasks, options)
    assert isinstance(model, DUPN)
    with torch.no_grad():
        for table in model.inputs.parameters():
            table[1:] = torch.randn_like(table[1:])
    return model.eval(), model.inputs.joint(rows.ids, rows.dense, rows.lists)


@pytest.mark.parametrize(
    ("variant", "lstm", "attention"),
    [("nobp", False, False), ("bplstm", True, False), ("bpatt", False, True), ("all", True, True), ("w2v", True, True)],
)
def test_variants_read_the_property_where_they_say(variant: str, lstm: bool, attention: bool) -> None:
    model, parts = dupn(variant=variant)
    assert (model.in_lstm, model.in_attention) == (lstm, attention)
    before = model(parts).logits
    kinds = parts.sequences["kinds"]
    kinds.values = kinds.values + 1.0
    assert bool((model(parts).logits != before).any()) == (lstm or attention)


def test_the_user_part_never_reads_the_item() -> None:
    model, parts = dupn()
    before, other = model(parts).other["grade"], model.user(parts, Notes())
    parts.item = parts.item + 1
    parts._x = None
    assert torch.equal(model(parts).other["grade"], before)
    assert torch.equal(model.user(parts, Notes()), other)


def test_a_preference_task_reads_only_what_it_names() -> None:
    model, parts = dupn(reads={"click": ["tag"]})
    before = model(parts).logits
    _, start, stop = model.place_of("item_id")
    parts.item = parts.item.clone()
    parts.item[:, start:stop] += 1
    assert (model(parts).logits != before).any(0).tolist() == [False, True]


def test_ranked_score_is_linear_in_the_items_numbers() -> None:
    model, parts = dupn(ranked=["click"])
    base = model(parts).logits[:, 0]
    one, two = parts.item.clone(), parts.item.clone()
    one[:, -1] += 1
    two[:, -1] += 2
    first, second = (model(Parts(parts.context, item, parts.sequences)).logits[:, 0] for item in (one, two))
    assert torch.allclose(second - base, 2 * (first - base), atol=1e-4)
    assert (first != base).any()


def test_w2v_freezes_the_item_rows_and_no_others() -> None:
    model, parts = dupn(variant="w2v")
    model.train()
    model(parts).logits.sum().backward()
    layout = model.layout
    grad = model.inputs.weight(8).grad
    assert grad is not None
    start = layout.offsets["item_id"]
    assert not grad[start : start + layout.rows["item_id"]].any()
    other = model.inputs.weight(4).grad
    assert other is not None
    assert other.any()

"""The contracts every architecture keeps; each check takes a way to make the model, so that a broken one can be shown to fail."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np
import torch

from core.artefacts import ArtefactStore
from core.logs import LoggedDataset
from core.tasks import TaskSet, TaskSpec
from ranker.batches import Batch, pack
from ranker.encoder import Encoder, Layout
from ranker.features import Feature, FeatureSpec
from ranker.losses import TaskLosses
from ranker.models.base import MultiTaskModel
from ranker.predictor import Predictor
from ranker.targets import Scale, observed

Make = Callable[[Layout, TaskSet], MultiTaskModel]
Check = Callable[[Make], None]
TASKS = TaskSet(
    [TaskSpec("click"), TaskSpec("like", sample_space="click"), TaskSpec("watch_s", "regression", unit_of_measure="s")]
)


class Example:
    """A small log with every kind of feature, encoded; the model of a check is built on it."""

    def __init__(
        self, make: Make, tasks: TaskSet = TASKS, *, n: int = 64, seed: int = 0, log: LoggedDataset | None = None
    ) -> None:
        self.log = example_log(n, seed) if log is None else log
        self.encoder = Encoder.fit(example_spec(tasks), self.log)
        kinds = {task.name: observed(self.log.columns, task)[0] for task in tasks if task.kind == "regression"}
        self.scales = {name: Scale.fit("standard", label) for name, label in kinds.items()}
        self.rows: Batch = pack(self.encoder, self.log, self.scales)
        torch.manual_seed(seed)
        self.model = make(self.encoder.layout, tasks)
        with torch.no_grad():
            for table in self.model.inputs.parameters():  # embeddings start near zero; a check must see what they do
                table[1:] += torch.randn_like(table[1:])
        self.model.eval()
        self.tasks = tasks
        self.losses = TaskLosses(tasks)
        self.predictor = Predictor("example", {}, self.encoder, self.model, self.scales)


def example_spec(tasks: TaskSet) -> FeatureSpec:
    """Sparse, dense, multi-hot, pooled and unpooled sequence features on all three sides."""
    return FeatureSpec(
        [
            Feature("user_id", side="user"),
            Feature("age", kind="dense", side="user"),
            Feature("history", kind="sequence", side="user", shares="item_id", max_len=5, pooling="none"),
            Feature("seen", kind="sequence", side="user", shares="item_id", max_len=5),
            Feature("scenario", side="request", dim=4),
            Feature("item_id"),
            Feature("tags", kind="multi_hot", dim=4, max_len=3),
            Feature("price", kind="dense", transform="piecewise", steps=4),
        ],
        tasks,
        scenario="scenario",
    )


def example_log(n: int, seed: int) -> LoggedDataset:
    """Random rows; likes are observed on clicked rows only."""
    rng = np.random.default_rng(seed)
    lists = np.empty(n, object)
    tags = np.empty(n, object)
    for row in range(n):
        lists[row] = rng.integers(0, 12, rng.integers(1, 8))
        tags[row] = rng.integers(0, 5, rng.integers(0, 4))
    click = (rng.random(n) < 0.5).astype(float)
    return LoggedDataset(
        {
            "user_id": rng.integers(0, 9, n),
            "age": rng.normal(40, 10, n),
            "history": lists,
            "seen": lists,
            "scenario": rng.integers(0, 3, n),
            "item_id": rng.integers(0, 12, n),
            "tags": tags,
            "price": rng.exponential(1, n),
            "click": click,
            "like": np.where(click > 0, (rng.random(n) < 0.3).astype(float), np.nan),
            "watch_s": rng.exponential(10, n),
            "grade": rng.integers(0, 3, n),
            "time_ms": np.arange(n),
        }
    )


def check_shapes(make: Make) -> None:
    """One finite logit a row and scored task; multiclass and user-level tasks apart, with their own widths."""
    tasks = TaskSet([*TASKS, TaskSpec("grade", "multiclass", level="user", n_classes=3)])
    example = Example(make, tasks)
    outputs = example.model.run(example.rows)
    assert outputs.logits.shape == (64, 3), f"logits {tuple(outputs.logits.shape)} are not (64, 3)"
    assert outputs.other["grade"].shape == (64, 3), "user-level multiclass logits are not (B, classes)"
    assert torch.isfinite(outputs.logits).all(), "a logit is not finite"


def check_gradients(make: Make) -> None:
    """Every parameter gets a finite gradient from the tasks' losses together, over a few batches."""
    example = Example(make)
    example.model.train()
    reached: set[str] = set()
    for _ in range(4):
        example.model.zero_grad()
        outputs = example.model.run(example.rows)
        total = example.losses(outputs, example.rows.values, example.rows.weights).sum()
        extra = example.model.extra_loss(outputs, example.rows.values, example.rows.weights)
        for more in (outputs.aux, extra):
            total = total if more is None else total + more
        torch.autograd.backward(total)
        for name, parameter in example.model.named_parameters():
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
                if parameter.grad.any():
                    reached.add(name)
    missed = {name for name, parameter in example.model.named_parameters() if parameter.requires_grad} - reached
    assert not missed, f"no gradient reaches {sorted(missed)}"


def check_masks(make: Make) -> None:
    """A row outside a task's sample space changes nothing in that task's loss, whatever its label says."""
    example = Example(make)
    outputs = example.model.run(example.rows)
    before = example.losses(outputs, example.rows.values, example.rows.weights)
    changed = torch.where(example.rows.weights > 0, example.rows.values, 1.0)
    after = example.losses(outputs, changed, example.rows.weights)
    assert torch.equal(before, after), "a masked label changed a loss"
    like = example.tasks.names.index("like")
    none = example.rows.weights.clone()
    none[:, like] = 0
    empty = example.losses(outputs, example.rows.values, none)
    assert empty[like] == 0, "a task without rows has a loss other than 0"
    assert torch.isfinite(empty).all(), "a task without rows makes a loss that is not finite"


def check_split_equals_joint(make: Make) -> None:
    """One user against many items, computed in parts, scores as the same rows computed jointly, to 1e-5."""
    example = Example(make)
    n = 12
    chosen = example.log.take(np.arange(n))
    first = np.zeros(n, int)
    one = example.log.take(first)
    predictor, spec = example.predictor, example.encoder.spec
    mixed = {**chosen.columns, **{name: one[name] for name in spec.columns("user", "request")}}
    joint = predictor.score_columns(mixed).values
    user, request = (predictor.encode(side, example.log.take(np.array([0])).columns) for side in ("user", "request"))
    for project in (True, False):
        items = predictor.encode("item", chosen.columns, project=project)
        split = predictor.score_encoded(user, request, items)
        gap = float(np.abs(split - joint).max())
        assert gap <= 1e-5, f"split and joint form differ by {gap:g} (item part {'ahead' if project else 'at the request'})"
        few = predictor.score_encoded(user, request, items.take(np.array([3, 1])))
        assert np.allclose(few, split[[3, 1]], atol=1e-5), "scores of some candidates depend on the others"


def check_permutation(make: Make) -> None:
    """Permuting candidates permutes scores."""
    example = Example(make)
    order = np.random.default_rng(1).permutation(len(example.log))
    scores = example.predictor.score_columns(example.log.columns).values
    moved = example.predictor.score_columns(example.log.take(order).columns).values
    assert np.allclose(moved, scores[order], atol=1e-5), "a row's score depends on its place"


def check_save_load(make: Make) -> None:
    """State written and read back into a new model gives the same scores, bit for bit."""
    example = Example(make)
    before = example.predictor.score_columns(example.log.columns).values
    torch.manual_seed(99)
    other = make(example.encoder.layout, example.tasks)
    other.load_state_dict(example.model.state_dict())
    other.eval()
    after = Predictor("example", {}, example.encoder, other, example.scales).score_columns(example.log.columns).values
    assert np.array_equal(before, after), "a loaded model scores differently"
    with tempfile.TemporaryDirectory() as root:
        artefact = example.predictor.publish(ArtefactStore(root), "example")
        weights = artefact.read_tensors("weights.safetensors")
    assert set(weights) == set(example.model.state_dict()), "the artefact lacks some weights"


def check_seeds(make: Make) -> None:
    """The same seed makes the same model; another seed makes another."""
    a, b, c = (Example(make, seed=seed) for seed in (3, 3, 4))
    same = [torch.equal(p, q) for p, q in zip(a.model.parameters(), b.model.parameters(), strict=True)]
    assert all(same), "one seed made two models"
    other = [p.shape == q.shape and torch.equal(p, q) for p, q in zip(a.model.parameters(), c.model.parameters(), strict=True)]
    assert not all(other), "the seed changes nothing"


def check_one_task(make: Make) -> None:
    """It works for K = 1 as well."""
    example = Example(make, TaskSet([TaskSpec("click")]))
    scores = example.predictor.score_columns(example.log.columns).values
    assert scores.shape == (64, 1), "one task does not give one column"
    assert np.all((scores > 0) & (scores < 1)), "one task does not give probabilities"


def check_bfloat16(make: Make) -> None:
    """With bfloat16 matrix products, losses and gradients are finite and the logits close to those of float32."""
    example = Example(make)
    exact = example.model.run(example.rows).logits
    with torch.autocast("cpu", torch.bfloat16):
        outputs = example.model.run(example.rows)
    assert (outputs.logits.float() - exact).abs().max() < 0.1 * (1 + exact.abs().max()), "bfloat16 changes the logits"
    example.model.train()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = example.model.run(example.rows).float()
    total = example.losses(outputs, example.rows.values, example.rows.weights).sum()
    torch.autograd.backward(total if outputs.aux is None else total + outputs.aux)
    for name, parameter in example.model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), f"the bfloat16 gradient of {name} is not finite"


def check_learns(make: Make) -> None:
    """A few dozen steps lower the training loss."""
    example = Example(make)
    example.model.train()
    optimiser = torch.optim.Adam(example.model.parameters(), 0.01)
    losses = []
    for _ in range(40):
        outputs = example.model.run(example.rows)
        total = example.losses(outputs, example.rows.values, example.rows.weights).sum()
        optimiser.zero_grad()
        torch.autograd.backward(total if outputs.aux is None else total + outputs.aux)
        optimiser.step()
        losses.append(total.item())
    assert losses[-1] < 0.8 * losses[0], f"the loss went from {losses[0]:.3f} to {losses[-1]:.3f} only"


CHECKS: tuple[Check, ...] = (
    check_shapes,
    check_gradients,
    check_masks,
    check_split_equals_joint,
    check_permutation,
    check_save_load,
    check_seeds,
    check_one_task,
    check_bfloat16,
    check_learns,
)

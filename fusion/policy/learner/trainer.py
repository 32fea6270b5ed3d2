"""The one training loop: rows to updates, with progress, checkpoints from which a killed run goes on identically, TensorBoard."""

from __future__ import annotations

import hashlib
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from core.checkpoint import Checkpoint
from core.errors import ConfigError
from fusion.policy.learner.base import FusionConfig, FusionLearner
from fusion.policy.learner.group import loop_of
from fusion.policy.learner.registry import algorithm as config_of
from fusion.policy.learner.rows import Rows
from fusion.policy.networks import PolicyNet, build
from fusion.policy.transitions import Transitions

DIVERGED = 1e4  # a mean value this many times the largest possible return is no value


@dataclass(frozen=True)
class Trained:
    """What training made.

    Attributes:
        net: The policy that is deployed.
        history: One row per reported block of updates: `update`, each loss and `q` as the block's means.
        status: `ok`, or `diverged` when losses or values left all bounds (training then stopped).
        seconds: Time spent in updates, over all runs it was resumed in.
    """

    algorithm: str
    settings: Mapping[str, Any]
    net: PolicyNet
    history: tuple[Mapping[str, float], ...]
    status: str
    n_updates: int
    seconds: float
    seed: int
    data: str

    @property
    def updates_per_s(self) -> float:
        """Updates a second."""
        return self.n_updates / self.seconds if self.seconds else math.nan


def train(
    table: Transitions,
    algorithm: str,
    *,
    settings: Mapping[str, Any] | None = None,
    n_updates: int = 5000,
    seed: int = 0,
    n_workers: int = 1,
    folder: str | Path | None = None,
    report_every: int = 250,
    checkpoint_every: int = 1000,
    progress: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Trained:
    """Train a policy on logged transitions, in this process or over several.

    Args:
        algorithm: One of `registry.ALGORITHMS`; `settings` change its own. `gate` may hold beginnings of observation names.
        n_workers: Above 1, so many Ray workers share each batch (`group.GroupLoop`); Ray is started if it does not run.
        folder: Where `checkpoint.pt` and TensorBoard's scalars go; a run of the same data, settings and seed goes on from there.

    Raises:
        ConfigError, DataError: Settings are unknown, the table lacks what the algorithm needs, the folder is another run's.
    """
    if n_updates < 1:
        raise ConfigError(f"n_updates {n_updates} must be at least 1")
    if n_workers < 1:
        raise ConfigError(f"n_workers {n_workers} must be at least 1")
    config = configure(table, algorithm, settings, seed)
    run = {"algorithm": algorithm, "settings": config.settings, "seed": seed, "data": fingerprint(table)}
    run |= {"workers": n_workers} if n_workers > 1 else {}
    history: list[dict[str, float]] = []
    seconds, status = 0.0, "ok"
    kept = Checkpoint(Path(folder) / "checkpoint.pt", run) if folder is not None else None
    state = _unpacked(kept.load()) if kept is not None else None
    with loop_of(config, table, n_workers) as loop:
        if state is not None:
            loop.restore(state["loop"])
            history, seconds, status = list(state["history"]), float(state["seconds"]), str(state["status"])
        writer = _scalars(folder, loop.n_updates)
        limit = DIVERGED * max(1.0, float(np.abs(table.reward).max())) / (1 - config.settings["gamma"])
        with tqdm(total=n_updates, initial=loop.n_updates, desc=algorithm, unit="update", disable=not progress) as bar:
            while loop.n_updates < n_updates and status == "ok":
                size = min(report_every - loop.n_updates % report_every, n_updates - loop.n_updates)
                start = clock()
                means = loop.run(size)
                seconds += clock() - start
                history.append({"update": float(loop.n_updates), **means})
                for name, value in means.items():
                    if writer is not None:
                        writer.add_scalar(f"{algorithm}/{name}", value, loop.n_updates)
                if not all(math.isfinite(v) for v in means.values()) or abs(means.get("q", 0.0)) > limit:
                    status = "diverged"
                bar.update(size)
                last = loop.n_updates >= n_updates or status != "ok"
                if kept is not None and (last or loop.n_updates % checkpoint_every < size):
                    kept.save(_packed({"loop": loop.snapshot(), "history": history, "seconds": seconds, "status": status}))
        if writer is not None:
            writer.close()
        net, done = deployed(loop.learner, loop.rows), loop.n_updates
    return Trained(algorithm, dict(config.settings), net, tuple(history), status, done, seconds, seed, str(run["data"]))


def _packed(state: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.save(dict(state), content)
    return content.getvalue()


def _unpacked(content: bytes | None) -> dict[str, Any] | None:
    if content is None:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)  # nothing in it is executed
    return state


def configure(table: Transitions, algorithm: str, settings: Mapping[str, Any] | None, seed: int) -> FusionConfig:
    """The algorithm's configuration for a table; `gate` by name becomes column numbers."""
    changed = dict(settings or {})
    if changed.get("gate") is not None:
        changed["gate"] = columns_of(changed["gate"], table.obs_names)
    config = config_of(algorithm).fusion(**changed)
    shaped = config.shaped(table.n_obs, table.low.tolist(), table.high.tolist(), group_weights=table.group_weights.tolist())
    done: FusionConfig = shaped.debugging(seed=seed)
    return done


def deployed(learner: FusionLearner, rows: Rows) -> PolicyNet:
    """A copy of the learner's policy that standardises raw observations itself."""
    trained = learner.net.policy
    net = build(trained.to_config())
    net.load_state_dict(trained.state_dict())
    for name, module in net.named_modules():
        if name.endswith("standardise"):
            module.load_state_dict(rows.standardise.state_dict())
    return net.eval().requires_grad_(False)


def fingerprint(table: Transitions) -> str:
    """A sha256 of what a table holds, by its size and a spread of its rows."""
    about = (len(table), table.obs_names, table.param_names, table.group_weights.tolist())
    digest = hashlib.sha256(repr(about).encode())
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), 5000)).astype(np.int64))
    for column in (table.obs, table.action, table.rewards, table.terminated):
        digest.update(np.ascontiguousarray(column[rows]).tobytes())
    return digest.hexdigest()


def columns_of(gate: Sequence[Any], names: tuple[str, ...]) -> list[int]:
    """Numbers of the observations that a gate names: by number, or by the beginning of their names."""
    found: list[int] = []
    for entry in gate:
        if isinstance(entry, int):
            found.append(entry)
            continue
        matching = [i for i, name in enumerate(names) if name.startswith(entry)]
        if not matching:
            raise ConfigError(f"gate {entry!r} begins no observation's name; names are {', '.join(names)}")
        found += matching
    return sorted(set(found))


def _scalars(folder: str | Path | None, n_updates: int) -> Any:
    if folder is None:
        return None
    from torch.utils.tensorboard import SummaryWriter  # a second to import: only where scalars are kept

    return SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=n_updates + 1 if n_updates else None)

"""`scorefusion ope`: what policies would have got, estimated from the log of another one, beside the truth where it is known."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from core.arrays import AnyArray, Floats32
from core.artefacts import ArtefactStore
from core.errors import ConfigError
from fusion.formula_strategy import FormulaStrategy
from fusion.ope import ESTIMATORS, Episodes, Evaluator, Settings, SlateFeatures, Target
from fusion.ope.features import Fuse, formula_fuse
from fusion.ope.report import HEADERS, OpeReport
from fusion.policy.exploration import Exploration, Gaussian, boxed, mixed
from fusion.policy.reward import Reward
from fusion.policy.strategy import PolicyStrategy
from fusion.policy.transitions import Transitions
from fusion.strategy import load_strategy
from simulator.env import SessionEnv
from simulator.judge import interval, judge
from simulator.policies import deterministic, mixed_exploration
from simulator.world import World
from workflow.data import add_store_argument, mapping_option, store_of
from workflow.policy_world import EXPLORATIONS, GATE, Acting, Ground
from workflow.tables import table
from workflow.transitions import URLS, open_transitions

PAGE_USUAL = ("dm", "dr", "sndr", "switch_dr", "snips", "ips")
USUAL = ("fqe", "conservative_ope", "fqe_action", "session_dr", "pdis", "ncis")


@dataclass(frozen=True)
class Source:
    """A log with what is known of how it came about.

    Attributes:
        table: The pages. logging: The policy that wrote them, where it is known.
        fuse, page_size: How its actions rank candidates. scale: What brings each task's scores near 1, `[n_tasks]`.
        unit: `[n_params]`, what a weight of the log is worth in raw scores.
        env: The simulated world it comes from, if it does.
    """

    words: str
    table: Transitions
    logging: Target | None = None
    fuse: Fuse | None = None
    scale: Floats32 | None = None
    unit: AnyArray | None = None
    fallback: AnyArray | None = None
    env: SessionEnv | None = None

    @property
    def page_size(self) -> int:
        """How many items a page shows."""
        if self.env is not None:
            return self.env.world.settings.page_size
        return 0 if self.table.slate is None else int(self.table.slate.shape[1])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_store_argument(parser)
    parser.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="LABEL|YAML",
        help="a published strategy, hand_set, or weights such as '{click: 1, like: 0.5}'; repeat to compare several",
    )
    parser.add_argument(
        "--log", metavar="DIR|URL", help="a folder of transitions, or an event store (duckdb://..., postgresql://...)"
    )
    parser.add_argument("--logging", metavar="LABEL", help="the published policy that wrote the log; needed for an event store")
    parser.add_argument("--reward", metavar="YAML", help="gains by group for an event store, such as '{stay: {watch_s: .01}}'")
    parser.add_argument("--world", metavar="PRESET", help="instead of --log: let a simulated world write one, and tell the truth")
    parser.add_argument("--world-overrides", metavar="YAML", help="settings of the world, such as '{n_users: 2000}'")
    parser.add_argument("--sessions", type=int, default=4000, help="with --world: sessions to log (default: %(default)s)")
    parser.add_argument("--exploration", choices=EXPLORATIONS, default="mixed", help="with --world (default: %(default)s)")
    parser.add_argument("--judge-sessions", type=int, default=4000, help="sessions that tell the truth (default: %(default)s)")
    parser.add_argument(
        "--estimators",
        metavar="A,B",
        help=f"or all; known are {', '.join(ESTIMATORS)}; {','.join(USUAL)} by default, with --pages {','.join(PAGE_USUAL)}",
    )
    parser.add_argument("--noise", type=float, metavar="SD", help="noise that policies are declared to act with (default: none)")
    parser.add_argument("--kernel", type=float, metavar="SD", help="kernel over policies without noise, for importance weights")
    parser.add_argument("--gamma", type=float, default=1.0, help="discount a page (default: %(default)s)")
    parser.add_argument(
        "--pages", action="store_true", help="every page is a decision of its own: the mean reward of a logged page"
    )
    parser.add_argument(
        "--beyond-cuts", action="store_true", help="value what would have followed where sessions were cut (fitted Q alone can)"
    )
    parser.add_argument("--cap", type=float, default=10.0, help="where ncis cuts weights (default: %(default)s)")
    parser.add_argument(
        "--min-effective", type=float, default=50.0, help="effective sessions an estimate needs (default: %(default)s)"
    )
    parser.add_argument("--out", default="runs/ope", metavar="FOLDER", help="ope.json, ope.html (default: %(default)s)")


def run(args: argparse.Namespace) -> str:
    """Estimate, print the table, write page and JSON."""
    if (args.world is None) == (args.log is None):
        raise ConfigError("give one of --log DIR|URL and --world PRESET")
    if not args.policy:
        raise ConfigError("--policy is missing: name what to evaluate, such as --policy hand_set --policy strategy/mine")
    asked = args.estimators or ",".join(PAGE_USUAL if args.pages else USUAL)
    names = list(ESTIMATORS) if asked == "all" else [name for name in asked.split(",") if name]
    unknown = [name for name in names if name not in ESTIMATORS]
    if unknown or not names:
        raise ConfigError(f"--estimators {asked!r}: choose from {', '.join(ESTIMATORS)}, or all")
    store = store_of(args)
    source = _simulated(args) if args.world else _logged(args, store)
    noise = None if args.noise is None else Exploration({"declared": (1.0, Gaussian(args.noise))})
    targets = [_target(text, source, store, noise) for text in dict.fromkeys(args.policy)]
    kernel = None if args.kernel is None else Exploration({"kernel": (1.0, Gaussian(args.kernel))})
    settings = Settings(
        gamma=args.gamma, cap=args.cap, min_effective=args.min_effective, beyond_cuts=args.beyond_cuts, seed=args.seed
    )
    evaluator = evaluator_of(source, settings, kernel, pages=args.pages)
    estimates = evaluator.table(targets, names)
    truth = _truth(args, source, targets)
    about = {"noise": args.noise, "kernel": args.kernel, "gamma": args.gamma, "cap": args.cap, "seed": args.seed}
    about |= {"pages": args.pages, "beyond_cuts": args.beyond_cuts}
    report = OpeReport(source.words, evaluator.logged, estimates, truth, about)
    page = report.write(args.out)
    print(table(HEADERS, report.rows()))
    n_ok = sum(estimate.status == "ok" for estimate in estimates)
    return f"{page}: {n_ok} of {len(estimates)} estimates of {len(targets)} policies can be read; {source.words}"


def _simulated(args: argparse.Namespace) -> Source:
    """A log that a simulated world writes now; it is kept below --out."""
    if min(args.sessions, args.judge_sessions) < 2:
        raise ConfigError("--sessions and --judge-sessions must be at least 2")
    world = World.make(args.world, seed=args.seed, **mapping_option("--world-overrides", args.world_overrides))
    ground = Ground.of(world, n_slots=max(8, min(500, args.sessions // 4)))
    rows = ground.log(args.sessions, seed=args.seed + 1, exploration=args.exploration, candidates=True, progress=True)
    folder = Path(args.out) / "log"
    rows.save(folder)
    world.save(folder)
    (folder / "logging.yaml").write_text(yaml.safe_dump({"exploration": args.exploration}))
    return source_of_world(rows, ground, args.exploration, f"{args.sessions:,} sessions of world {args.world} (seed {args.seed})")


def source_of_world(rows: Transitions, ground: Ground, exploration: str, words: str) -> Source:
    """A log that a world wrote by exploring around its hand-set weights."""
    env, hand = ground.env, ground.hand_set
    unit = env.world.unit

    def fuse(action: AnyArray, scores: AnyArray) -> AnyArray:
        final: AnyArray = (scores @ (env.weights(action) * unit)[:, :, None])[:, :, 0]
        return final

    shapes: Mapping[str, Callable[[], Exploration]] = {"mixed": mixed, "box": boxed, "random": lambda: mixed(wide_share=1.0)}
    logging = Target("logging", lambda obs: np.broadcast_to(hand, (len(obs), len(hand))), shapes[exploration]())
    return Source(words, rows, logging, fuse, unit, unit, hand, env)


def _logged(args: argparse.Namespace, store: ArtefactStore) -> Source:
    """A log that was written before: by a simulated world, or by a service."""
    artefact = None if args.logging is None else store.find(args.logging)
    groups = mapping_option("--reward", args.reward)
    url = args.log.startswith(URLS)
    if not url and not Path(args.log).is_dir():
        raise ConfigError(f"--log {args.log!r} is no folder and no event store's URL ({', '.join(URLS)})")
    if url and (artefact is None or not groups):
        raise ConfigError(f"{args.log}: an event store needs --logging, the policy that explored, and --reward")
    rows = open_transitions(
        args.log, Path(args.out) / "transitions", policy=artefact, reward=Reward(groups) if groups else None, gaps="drop"
    )
    words = f"{len(rows.starts):,} sessions of {args.log}"
    if (Path(args.log) / "world.json").is_file():
        exploration = yaml.safe_load((Path(args.log) / "logging.yaml").read_text())["exploration"]
        return source_of_world(rows, Ground.of(World.load(args.log)), exploration, words)
    if artefact is None:
        return Source(words, rows)
    strategy = load_strategy(artefact)
    if not isinstance(strategy, PolicyStrategy):
        raise ConfigError(f"{artefact.label} is no policy; --logging names the one that explored")
    logging = Target("logging", Acting(strategy.network), strategy.exploration)
    fallback = strategy.action(strategy.fallback)
    if rows.candidate_scores is None or not rows.task_names:
        return Source(words, rows, logging, fallback=fallback)
    fuse = formula_fuse(strategy.formula, rows.task_names, strategy.low, strategy.high, strategy.calibration)
    means = np.abs(np.asarray(rows.candidate_scores[:1000], np.float32)).mean((0, 1))
    return Source(words, rows, logging, fuse, (1 / np.maximum(means, 1e-9)).astype(np.float32), fallback=fallback)


def evaluator_of(source: Source, settings: Settings, kernel: Exploration | None = None, *, pages: bool = False) -> Evaluator:
    """The log ready to be asked, with the slate's features where its candidates are known; its sessions, or single `pages`."""
    rows = source.table
    episodes = Episodes.from_table(rows)
    gates = [i for i, name in enumerate(rows.obs_names) if name.startswith(GATE)]
    features = None
    if source.fuse is not None and source.scale is not None and source.page_size:
        reference = None if source.logging is None else source.logging.mean
        features = SlateFeatures(source.fuse, source.page_size, source.scale, gates, reference)
    return Evaluator(
        episodes.pages() if pages else episodes,
        features=features,
        logging=source.logging,
        kernel=kernel,
        fuse=source.fuse,
        page_size=source.page_size,
        params=tuple(rows.param_names),
        settings=settings,
    )


def _target(text: str, source: Source, store: ArtefactStore, noise: Exploration | None) -> Target:
    """A policy by its label, `hand_set`, or weights."""
    rows = source.table
    if text == "hand_set":
        if source.fallback is None:
            raise ConfigError("hand_set is known of a simulated world's log, or with --logging (its fallback)")
        return _constant(text, source.fallback, noise, rows.param_names)
    if text.lstrip().startswith("{"):
        weights = mapping_option("--policy", text)
        return _constant(text, _action(text, weights, rows), noise, rows.param_names)
    artefact = store.find(text)
    strategy = load_strategy(artefact)
    if isinstance(strategy, FormulaStrategy):
        weights = dict(strategy.weights)
        if source.unit is not None:  # the log's weights are in average occurrences, the formula's of raw scores
            units = dict(zip(rows.param_names, source.unit, strict=True))
            weights = {name: value / float(units.get(name, 1.0)) for name, value in weights.items()}
        if set(weights) != set(rows.param_names):
            return Target(text, lambda obs: np.zeros((len(obs), len(weights))), noise, params=tuple(weights))
        return _constant(text, _action(text, weights, rows), noise, rows.param_names)
    if not isinstance(strategy, PolicyStrategy):
        raise ConfigError(f"{artefact.label} has no weights; evaluate formulas and policies")
    if tuple(strategy.state.names) != tuple(rows.obs_names):
        missing = [name for name in strategy.state.names if name not in rows.obs_names]
        raise ConfigError(f"{artefact.label} reads the state {missing[:1] or strategy.state.names[:1]}, the log's is another one")
    return Target(text, Acting(strategy.network), noise or strategy.exploration, params=tuple(strategy.formula.params))


def _action(text: str, weights: Mapping[str, float], rows: Transitions) -> Floats32:
    """The action that stands for weights by parameter (`w_` may be left out); scaled down together where one is too large."""
    given = {name if name in rows.param_names else f"w_{name}": float(value) for name, value in weights.items()}
    extra = [name for name in given if name not in rows.param_names]
    if extra:
        raise ConfigError(f"--policy {text!r}: unknown weight {extra[0]!r}; the log's are {', '.join(rows.param_names)}")
    values = np.array([given.get(name, 0.0) for name in rows.param_names])
    bound = np.where(values < 0, rows.low, rows.high)
    with np.errstate(divide="ignore", invalid="ignore"):
        over = float(np.nanmax(np.where(values == 0, 0.0, values / bound)))
    if ((values < 0) & (rows.low >= 0)).any() or ((values > 0) & (rows.high <= 0)).any():
        raise ConfigError(
            f"--policy {text!r}: a weight has the wrong sign for its range {rows.low.tolist()} to {rows.high.tolist()}"
        )
    values = values / max(over, 1.0)
    action: Floats32 = np.clip(2 * (values - rows.low) / (rows.high - rows.low) - 1, -1, 1).astype(np.float32)
    return action


def _constant(name: str, action: AnyArray, noise: Exploration | None, params: tuple[str, ...]) -> Target:
    return Target(name, lambda obs: np.broadcast_to(action, (len(obs), len(action))), noise, params=tuple(params))


def _truth(args: argparse.Namespace, source: Source, targets: list[Target]) -> dict[str, tuple[float, float, float]]:
    """What the world gives each policy, with its declared noise, on fresh sessions."""
    if source.env is None or args.gamma != 1.0 or args.pages or args.beyond_cuts:
        return {}  # the world tells what whole sessions come to, up to its own limit
    found = {}
    for target in targets:
        if target.params and tuple(target.params) != tuple(source.table.param_names):
            continue
        policy = deterministic(target.mean)
        if target.noise is not None:
            if args.noise is None:
                continue  # it explores in a way of its own, which the world does not play
            policy = mixed_exploration(target.mean, noise=args.noise, share=0.0)
        returns = judge(source.env, policy, n_sessions=args.judge_sessions, seed=2_000_000 + args.seed).session_return
        mean = interval(returns)
        found[target.name] = (mean.mean, mean.low, mean.high)
    return found

"""`scorefusion train-policy`: learn a fusion policy from logged sessions, or search one by playing, judge it, publish it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.artefacts import Artefact
from core.errors import ConfigError
from fusion.formula.families import weighted_sum_of
from fusion.policy.fitted import fitted
from fusion.policy.learner.least_squares import least_squares
from fusion.policy.learner.lists import Terms
from fusion.policy.learner.non_rl import SEARCHES
from fusion.policy.learner.recipes import OURS
from fusion.policy.learner.registry import ALGORITHMS
from fusion.policy.learner.trainer import Trained, columns_of, fingerprint, train
from fusion.policy.networks import PolicyNet
from fusion.policy.report import PolicyReport, Table, mean_weights
from fusion.policy.reward import FittedWeights, Reward
from fusion.policy.strategy import PolicyStrategy
from fusion.policy.transitions import Transitions
from fusion.strategy import load_strategy, publish
from simulator.judge import Judged, interval, judge
from simulator.oracle import oracle_weights, share_of_gap
from simulator.world import World
from workflow.data import add_store_argument, mapping_option, store_of
from workflow.policy_ope import ope_table
from workflow.policy_state import state_of
from workflow.policy_terms import terms_of
from workflow.policy_world import EXPLORATIONS, GATE, Acting, Ground
from workflow.tables import table
from workflow.transitions import add_session_arguments, open_transitions

SOLVED = "least_squares"
LEARNERS = (SOLVED, *ALGORITHMS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_store_argument(parser)
    parser.add_argument("--algorithm", choices=[*LEARNERS, *SEARCHES], default=SOLVED, help="default: %(default)s")
    parser.add_argument("--world", metavar="PRESET", help="log and judge in this simulated world: a preset or a .yaml file")
    parser.add_argument("--log", metavar="DIR|URL", help="learn from a transition table or an event store instead")
    parser.add_argument("--policy", metavar="LABEL", help="with --log: the published policy that explored; its formula is kept")
    parser.add_argument("--reward", metavar="YAML", help="gains by group, such as '{stay: {watch_s: .01}, act: {like: .3}}'")
    parser.add_argument("--fit-reward", metavar="GROUP", help="with --log: weigh the groups by GROUP in users' next sessions")
    parser.add_argument("--fit-next", type=int, default=1, help="how many next sessions (default: %(default)s)")
    add_session_arguments(parser)
    parser.add_argument("--sessions", type=int, default=10_000, help="sessions to log or play (default: %(default)s)")
    parser.add_argument("--exploration", choices=EXPLORATIONS, default="mixed", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=1, help="log again around what was learned (default: %(default)s)")
    parser.add_argument("--updates", type=int, default=1500, help="gradient steps a round (default: %(default)s)")
    parser.add_argument(
        "--recipe", choices=["ours", "paper"], default="ours", help="settings to start from (default: %(default)s)"
    )
    parser.add_argument("--settings", metavar="YAML", help="changes to them, such as '{gamma: 0.9, hidden: [64, 64]}'")
    parser.add_argument("--workers", type=int, default=1, help="Ray workers that share each batch (default: %(default)s)")
    parser.add_argument("--judge-sessions", type=int, default=2000, help="fresh sessions that judge it (default: %(default)s)")
    parser.add_argument("--world-overrides", metavar="YAML", help="settings of the world, such as '{n_users: 2000}'")
    parser.add_argument("--name", help="the artefact is strategy/NAME (default: the algorithm's name)")
    parser.add_argument("--out", default="runs/policy", metavar="FOLDER", help="checkpoints, report (default: %(default)s)")


def run(args: argparse.Namespace) -> str:
    """Train, judge, publish; a killed run goes on from `--out`."""
    if (args.world is None) == (args.log is None):
        raise ConfigError("give one of --world PRESET and --log DIR")
    if min(args.sessions, args.rounds, args.updates) < 1 or args.judge_sessions < 2:
        raise ConfigError("--sessions, --rounds and --updates must be at least 1, --judge-sessions at least 2")
    if args.workers != 1 and args.algorithm not in ALGORITHMS:
        raise ConfigError(f"--workers {args.workers}: {args.algorithm} takes no gradient steps; leave --workers out")
    if args.fit_reward and args.world:
        raise ConfigError("--fit-reward needs --log: no session that --world logs follows from another of its user")
    if args.fit_next < 1:
        raise ConfigError(f"--fit-next {args.fit_next} must be at least 1")
    return _from_world(args) if args.world else _from_log(args)


def _from_log(args: argparse.Namespace) -> str:
    if args.algorithm not in LEARNERS:
        raise ConfigError(f"--algorithm {args.algorithm} plays and needs --world; from a log learn one of {', '.join(LEARNERS)}")
    if args.policy is None:
        raise ConfigError("--log needs --policy, the published policy that explored: the new one keeps its formula and state")
    store = store_of(args)
    parent = store.find(args.policy)
    logging = load_strategy(parent)
    if not isinstance(logging, PolicyStrategy):
        raise ConfigError(f"{parent.label} is no policy; --policy names the one that explored")
    rows = open_transitions(
        args.log,
        Path(args.out) / "transitions",
        policy=parent,
        reward=_reward(args),
        gap_s=args.gap_s,
        step_limit=args.step_limit,
        gaps=args.gaps,
    )
    tables: list[Table] = []
    if args.fit_reward:
        rows, found = fitted(rows, args.fit_reward, n_next=args.fit_next, seed=args.seed)
        tables = [weights_table(found, args.fit_reward, args.fit_next)]
        print(table(tables[0].headers, tables[0].rows))
    trained = _train(args, rows, 0, terms_of(logging, rows))
    report = _report(args, trained, rows, trained.net, tables)
    strategy = _with_net(logging, trained.net)
    made = _publish(args, strategy, trained, parent.manifest.get("parents", {}).get("ranker"), {}, rows)
    return f"{made.path}: {trained.algorithm} from {len(rows):,} pages, {trained.status}, report in {report}"


def _from_world(args: argparse.Namespace) -> str:
    world = World.make(args.world, seed=0, **mapping_option("--world-overrides", args.world_overrides))
    ground = Ground.of(world, n_slots=max(8, min(500, args.judge_sessions // 4)))
    trained, rows = None, None
    if args.algorithm in SEARCHES:
        net = SEARCHES[args.algorithm](ground.play(args.seed + 1), ground.start(), args.sessions, args.seed)
    else:
        trained, rows = _rounds(args, ground)
        net = trained.net
    judged = _judge(args, ground, net)
    tables = [returns_table(judged), guardrail_table(judged)]
    if rows is not None and args.reward is None:  # the truth is of the world's own reward
        nets = {"hand_set": ground.start().net(ground.hand_set.astype(float)), args.algorithm: net}
        tables.append(ope_table(rows, ground, nets, judged, exploration=args.exploration, seed=args.seed))
    for found in tables:
        print(found.title)
        print(table(found.headers, found.rows))
    seen = rows if rows is not None else ground.log(200, seed=args.seed + 2)
    report = _report(args, trained, seen, net, tables)
    gain = interval(judged[args.algorithm].session_return - judged["hand_set"].session_return)
    metrics = {"return_gain": gain.mean, "return_gain_low": gain.low, "return_gain_high": gain.high}
    made = _publish(args, strategy_of(world, ground, net), trained, None, metrics, rows)
    return f"{made.path}: gain over hand_set {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] a session, report in {report}"


def _rounds(args: argparse.Namespace, ground: Ground) -> tuple[Trained, Transitions]:
    """Log, train, and log again around what was learned; every round trains on all rows so far."""
    kept: list[Transitions] = []
    net: PolicyNet | None = None
    each = max(1, args.sessions // args.rounds)
    trained: Trained | None = None
    for turn in range(args.rounds):
        seed = args.seed + 100 * (turn + 1)
        options = {"exploration": args.exploration, "baseline": net, "reward": _reward(args), "candidates": args.reward is None}
        rows = ground.log(each, seed=seed, progress=True, **options)
        kept.append(rows)
        terms = ground.terms if options["candidates"] else None
        trained = _train(args, concatenated(kept), turn, terms)
        net = trained.net
    assert trained is not None
    return trained, concatenated(kept)


def _train(args: argparse.Namespace, rows: Transitions, turn: int, terms: Terms | None) -> Trained:
    if args.algorithm == SOLVED:
        return _solve(args, rows, terms)
    settings: dict[str, Any] = dict(OURS[args.algorithm]) if args.recipe == "ours" else {}
    known = ALGORITHMS[args.algorithm].DEFAULTS
    gate = [name for name in GATE if any(column.startswith(name) for column in rows.obs_names)]
    if args.recipe == "ours" and "gate" in known and gate:
        settings["gate"] = gate
    settings |= mapping_option("--settings", args.settings)
    folder = Path(args.out) / f"{args.algorithm}-{turn}"
    options = {"n_updates": args.updates, "seed": args.seed, "n_workers": args.workers, "folder": folder}
    options["report_every"] = max(1, min(250, args.updates // 20))
    options["checkpoint_every"] = max(1, min(1000, args.updates // 4))
    return train(rows, args.algorithm, settings=settings, **options)


def _solve(args: argparse.Namespace, rows: Transitions, terms: Terms | None) -> Trained:
    given = mapping_option("--settings", args.settings)
    settings: dict[str, Any] = {"gate": list(GATE), "lists": terms is not None, **given}
    numbers = ("gamma", "trace", "later", "ridge_common", "ridge_gate", "ridge_list", "ridge_value", "rounds")
    unknown = sorted(set(settings) - {"gate", "lists", *numbers})
    if unknown:
        raise ConfigError(f"--settings: {SOLVED} has no setting {unknown[0]!r}")
    if settings["lists"] and terms is None:
        raise ConfigError("--settings: lists need every candidate's scores in the log and a formula linear in its parameters")
    known = {name: settings[name] for name in numbers if name in settings}
    gate = columns_of(settings["gate"], rows.obs_names)
    net = least_squares(rows, gate=gate, terms=terms if settings["lists"] else None, **known)
    return Trained(SOLVED, settings, net, (), "ok", 0, 0.0, args.seed, fingerprint(rows))


def concatenated(parts: list[Transitions]) -> Transitions:
    """Tables of the same names one after another, sessions numbered on."""
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *(int(part.session.max()) + 1 for part in parts[:-1])])
    columns = [{**part.columns(), "session": part.session + start} for part, start in zip(parts, first, strict=True)]
    joined: dict[str, Any] = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    return replace(parts[0], **joined)


def _judge(args: argparse.Namespace, ground: Ground, net: PolicyNet) -> dict[str, Judged]:
    """hand_set, the policy and the weight-space oracle on the same fresh sessions."""
    options = {"n_sessions": args.judge_sessions, "seed": 1_000_000 + args.seed}
    hand = ground.judge(ground.start().net(ground.hand_set.astype(float)), **options)
    rho = float(hand.session_return.sum() / hand.pages.sum())
    found = {"hand_set": hand, args.algorithm: ground.judge(net, **options)}
    return found | {"oracle_weights": judge(ground.env, oracle_weights(ground.env, rho=rho), **options)}


def returns_table(judged: Mapping[str, Judged]) -> Table:
    """Return a session with its interval, and the share of the gap from hand_set to the oracle."""
    low, high = judged["hand_set"].session_return.mean(), judged["oracle_weights"].session_return.mean()
    rows: list[list[str | float | None]] = []
    for name, found in judged.items():
        mean = interval(found.session_return)
        rows.append([name, mean.mean, mean.low, mean.high, share_of_gap(mean.mean, float(low), float(high))])
    return Table("Return a session", ["policy", "return", "low", "high", "share of gap"], rows)


def guardrail_table(judged: Mapping[str, Judged]) -> Table:
    """What a policy may not hurt: pages a session, clicks a page, days until the next session."""
    rows: list[list[str | float | None]] = [
        [name, float(found.pages.mean()), found.clicks_per_page, float(found.days_away.mean())] for name, found in judged.items()
    ]
    return Table("Guardrails", ["policy", "pages a session", "clicks a page", "days away"], rows)


def weights_table(found: FittedWeights, group: str, n_next: int) -> Table:
    """Fitted reward weights with their intervals over users."""
    columns = zip(found.names, found.weights.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    rows: list[list[str | float | None]] = [list(row) for row in columns]
    sessions = "session" if n_next == 1 else f"{n_next} sessions"
    title = f"Reward weights fitted to {group} in the user's next {sessions} ({found.n_sessions} sessions, {found.n_users} users)"
    return Table(title, ["group", "weight", "low", "high"], rows)


def strategy_of(world: World, ground: Ground, net: PolicyNet) -> PolicyStrategy:
    """The policy as it is served: weights in average occurrences become factors of raw scores."""
    formula = weighted_sum_of(dict.fromkeys(world.tasks.names, 1.0))
    unit = world.unit.astype(float)
    ranges = {
        name: (float(low * u), float(high * u))
        for name, low, high, u in zip(formula.params, ground.env.low, ground.env.high, unit, strict=True)
    }
    fallback = dict(zip(formula.params, (world.hand_set() * unit).tolist(), strict=True))
    return PolicyStrategy(formula, ranges, state_of(world)[0], net, fallback)


def _with_net(logging: PolicyStrategy, net: PolicyNet) -> PolicyStrategy:
    kept = (logging.formula, logging.ranges, logging.state, net, logging.fallback)
    return PolicyStrategy(*kept, None, logging.calibration)


def _report(args: argparse.Namespace, trained: Trained | None, rows: Transitions, net: PolicyNet, tables: list[Table]) -> Path:
    obs = np.array(rows.obs[:20_000])
    weights = rows.low + (Acting(net)(obs) + 1) * 0.5 * (rows.high - rows.low)
    steps = np.array([f"step {step:02d}" for step in rows.step[:20_000]])
    varies = {"by step": mean_weights(steps, weights, rows.param_names)}
    cohorts = [i for i, name in enumerate(rows.obs_names) if name.startswith(GATE)]
    if cohorts:
        names = np.array([rows.obs_names[i] for i in cohorts])[obs[:, cohorts].argmax(1)]
        varies = {"by users' cohort": mean_weights(names, weights, rows.param_names), **varies}
    settings: dict[str, Any] = {"algorithm": args.algorithm, "seed": args.seed, "pages": len(rows)}
    if trained is not None:
        settings |= {"status": trained.status, "updates": trained.n_updates, "updates a second": trained.updates_per_s}
        settings |= dict(trained.settings)
    history = trained.history if trained is not None else ()
    return PolicyReport(args.name or args.algorithm, settings, history, tables, varies).write(args.out)


def _publish(
    args: argparse.Namespace,
    strategy: PolicyStrategy,
    trained: Trained | None,
    ranker: str | None,
    metrics: Mapping[str, float],
    rows: Transitions | None,
) -> Artefact:
    about: dict[str, Any] = {"algorithm": args.algorithm}
    if trained is not None:
        about |= {"settings": dict(trained.settings), "n_updates": trained.n_updates, "status": trained.status}
    if rows is not None:
        about["reward"] = dict(zip(rows.group_names, rows.group_weights.tolist(), strict=True))
    return publish(
        store_of(args),
        args.name or args.algorithm,
        strategy,
        ranker=ranker,
        seed=args.seed,
        data_fingerprint=trained.data if trained is not None else None,
        metrics=metrics,
        search=about,
    )


def _reward(args: argparse.Namespace) -> Reward | None:
    groups = mapping_option("--reward", args.reward)
    return Reward(groups) if groups else None

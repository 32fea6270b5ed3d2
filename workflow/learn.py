"""`scorefusion learn`: learn a monotone fusion from scored impressions, judge it on later days, publish it with a report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.artefacts import Artefact, ArtefactStore
from core.drift import Reference
from core.errors import ConfigError
from core.events import SCORE
from core.logs import LoggedDataset
from core.tasks import TaskSet
from fusion.calibrate import METHODS, Calibration, fit
from fusion.fused import FusionStrategy
from fusion.learned import report
from fusion.learned.fit import LEARNERS, Learned, learn
from fusion.strategy import hand_set_strategy, load_strategy, publish
from workflow.data import mapping_option
from workflow.scored import add_scored_arguments, scored_of, split_last_days
from workflow.tables import table

KINDS = (*LEARNERS, "distill")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_scored_arguments(parser)
    parser.add_argument(
        "--kind", choices=KINDS, default="lambdamart", help="distill: one student of several teachers (default: %(default)s)"
    )
    parser.add_argument("--student", choices=list(LEARNERS), default="lambdamart", help="of distill (default: %(default)s)")
    parser.add_argument(
        "--teachers", default="", metavar="A,B", help="of distill: published strategies, beside trees and a network learned here"
    )
    parser.add_argument("--against", default="", metavar="A,B", help="published strategies to compare with, beside hand_set")
    parser.add_argument("--context", default="", metavar="A,B", help="numeric columns of the request that may bend the fusion")
    parser.add_argument("--by", default="user_id", help="items compete within one value of this column (default: %(default)s)")
    parser.add_argument("--options", metavar="YAML", help="the learner's own, such as '{n_leaves: 15, metric: ndcg}'")
    parser.add_argument("--rounds", type=int, default=40, help="at most so many (default: %(default)s)")
    parser.add_argument("--patience", type=int, default=6, help="rounds without a better validation day (default: %(default)s)")
    parser.add_argument("--calibrate", choices=METHODS, default="isotonic", help="default: %(default)s")
    parser.add_argument("--name", default="learned", help="the artefact is strategy/NAME (default: %(default)s)")
    parser.add_argument(
        "--out", metavar="FOLDER", help="report.html, learned.json and the rounds; a killed run goes on from here"
    )


def run(args: argparse.Namespace) -> str:
    """Learn with the last day before the held-out ones as validation, once more on all of them, judge, publish."""
    given = scored_of(args)
    store, ranker, gains, earlier, later = given.store, given.ranker, given.gains, given.earlier, given.later
    against = _published(store, _names(args.against), ranker, "--against")
    teachers = _published(store, _names(args.teachers), ranker, "--teachers")
    if teachers and args.kind != "distill":
        raise ConfigError(f"--teachers goes with --kind distill, not with {args.kind}")
    lessons = _Lessons(args, earlier, given.tasks, gains)
    learned = lessons.distill(list(teachers.values())) if args.kind == "distill" else lessons.learn(args.kind)
    reference = Reference.of({task: earlier[SCORE + task] for task in given.tasks.scored})
    found = report.facts(
        learned,
        later,
        gains=gains,
        controls={"hand_set": hand_set_strategy(gains, lessons.calibration), **against},
        drift=reference.psi({task: later[SCORE + task] for task in given.tasks.scored}),
        seed=args.seed,
    )
    print(_table(found["values"], found["gain_over"]))
    artefact = publish(
        store,
        args.name,
        learned.strategy,
        ranker=ranker.label,
        seed=args.seed,
        data_fingerprint=learned.data_fingerprint,
        metrics={"values": found["values"], "gain_over": found["gain_over"]},
        search=learned.summary(),
    )
    where = f", report in {report.write(found, args.out)}" if args.out else ""
    gain = found["gain_over"]["hand_set"]
    return f"{artefact.path}: gain over hand_set on later days {_signed(gain)}{where}"


class _Lessons:
    """The same procedure for every learner: rounds by the last day, then all days for so many rounds."""

    def __init__(self, args: argparse.Namespace, earlier: LoggedDataset, tasks: TaskSet, gains: Mapping[str, float]) -> None:
        self.args, self.earlier, self.tasks, self.gains = args, earlier, tasks, gains
        self.rest, self.valid = split_last_days(earlier, 1)
        self.calibration = fit(earlier, tasks, args.calibrate)
        self.options = mapping_option("--options", args.options)

    def learn(self, kind: str, teachers: Sequence[FusionStrategy] = (), options: Mapping[str, object] | None = None) -> Learned:
        """Twice: to find the best number of rounds, and to learn from every day."""
        first_calibration = fit(self.rest, self.tasks, self.args.calibrate)
        chosen = self._run(kind, self.rest, self.valid, first_calibration, teachers, self.args.rounds, options, "choose")
        last = self._run(kind, self.earlier, None, self.calibration, teachers, chosen.best_round, options, "all")
        return Learned(
            last.strategy, kind, chosen.history, chosen.best_round, last.seed, last.options, last.data_fingerprint
        )  # fmt: skip

    def distill(self, teachers: Sequence[FusionStrategy]) -> Learned:
        """A student of the published teachers, and of trees and a network learned here with their defaults."""
        own = [self.learn(kind, options={}).strategy for kind in LEARNERS]
        return self.learn(self.args.student, [*teachers, *own])

    def _run(
        self,
        kind: str,
        log: LoggedDataset,
        valid: LoggedDataset | None,
        calibration: Calibration,
        teachers: Sequence[FusionStrategy],
        rounds: int,
        options: Mapping[str, object] | None,
        step: str,
    ) -> Learned:
        args = self.args
        what = f"{kind}-student" if teachers else kind
        return learn(
            kind,
            log,
            valid,
            tasks=self.tasks,
            gains=self.gains,
            teachers=teachers,
            context=_names(args.context),
            calibration=calibration,
            options=self.options if options is None else options,
            max_rounds=rounds,
            patience=args.patience,
            by=args.by,
            seed=args.seed,
            folder=Path(args.out) / "rounds" / f"{what}-{step}" if args.out else None,
        )


def _published(store: ArtefactStore, labels: Sequence[str], ranker: Artefact, option: str) -> dict[str, FusionStrategy]:
    """Strategies by label; those fitted to another ranker's scores are refused."""
    found = {}
    for label in labels:
        artefact = store.find(label)
        parent = artefact.manifest["parents"].get("ranker")
        if parent not in (None, ranker.label):
            raise ConfigError(f"{option}: {artefact.label} was fitted to the scores of {parent}, not of {ranker.label}")
        found[artefact.label] = load_strategy(artefact)
    return found


def _table(values: Mapping[str, Mapping[str, float | None]], over: Mapping[str, Mapping[str, float | None]]) -> str:
    rows: list[Sequence[object]] = []
    for name, value in values.items():
        gain = over.get(name)
        rows.append([name, value["value"], _interval(value), "" if gain is None else _signed(gain)])
    return table(["fusion", "later days", "95 % interval", "learned minus it"], rows)


def _interval(value: Mapping[str, float | None]) -> str:
    return f"[{_text(value['low'])}, {_text(value['high'])}]"


def _signed(gain: Mapping[str, float | None]) -> str:
    return f"{_text(gain['value'], '+')} [{_text(gain['low'], '+')}, {_text(gain['high'], '+')}]"


def _text(value: float | None, sign: str = "") -> str:
    return "-" if value is None else format(value, f"{sign}.4f")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]

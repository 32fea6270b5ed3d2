"""`scorefusion publish`: a formula with the weights you give it, a whole release, a ranker as a graph, or the list of it all."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.artefacts import ArtefactStore, write_whole
from core.drift import Reference
from core.errors import ConfigError
from core.events import SCORE
from core.logs import LoggedDataset
from fusion.formula import Formula
from fusion.strategy import FormulaStrategy, Publishable, publish
from serving.published import publish_release
from workflow.data import add_store_argument, mapping_option, store_of
from workflow.tables import table

KINDS = ("ranker", "strategy", "release")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_store_argument(parser)
    parser.add_argument("--list", action="store_true", help="show every published version and stop")
    parser.add_argument("--name", help="the artefact is strategy/NAME")
    parser.add_argument("--formula", metavar="TEXT", help="such as 'w_click * click + w_like * like'")
    parser.add_argument("--weights", metavar="YAML", help="a number for every parameter, such as '{w_click: 1, w_like: 20}'")
    parser.add_argument("--ranker", metavar="LABEL", help="the ranker whose scores it fuses: ranker/NAME or ranker/NAME/vN")
    parser.add_argument(
        "--explore", metavar="FILE.yaml", help="explore around the weights: the policy's state, ranges and exploration"
    )
    parser.add_argument("--release", metavar="NAME", help="instead: pin --ranker, --strategies and --default as release/NAME")
    parser.add_argument("--strategies", metavar="YAML", help="of a release, such as '{hand_set: strategy/hand_set}'")
    parser.add_argument("--default", metavar="KEY", help="of a release: the strategy outside every experiment")
    parser.add_argument(
        "--reference", metavar="FILE.parquet", help="of a release: the scored log its strategies were fitted on; drift is from it"
    )
    parser.add_argument(
        "--export", metavar="FILE", help="instead: write --ranker as a graph for other runtimes, FILE.onnx or FILE.pt2 (torch)"
    )


def run(args: argparse.Namespace) -> str:
    """List, or check and publish."""
    store = store_of(args)
    if args.list:
        return listing(store)
    if args.export:
        return export_graph(store, args.ranker, Path(args.export))
    if args.release:
        return release(store, args)
    for option in ("name", "formula", "ranker"):
        if not getattr(args, option):
            raise ConfigError(f"--{option} is missing; give --name, --formula, --weights and --ranker, or --list")
    weights = mapping_option("--weights", args.weights)
    ranker = store.find(args.ranker)
    tasks = [task["name"] for task in ranker.read_json("encoder.json")["spec"]["tasks"]]
    formula = Formula.parse(args.formula, tasks=tasks, params=list(weights))
    strategy: Publishable = FormulaStrategy(formula, weights)
    if args.explore:
        from workflow.exploring import exploring  # here: a policy's network needs torch

        strategy = exploring(args.explore, formula, weights)
    artefact = publish(store, args.name, strategy, ranker=ranker.label, seed=args.seed)
    return f"{artefact.path}: {args.formula} over {ranker.label}"


def release(store: ArtefactStore, args: argparse.Namespace) -> str:
    """Pin what is served together, with the distribution of its scores."""
    strategies = {key: str(label) for key, label in mapping_option("--strategies", args.strategies).items()}
    if not args.ranker or not strategies:
        raise ConfigError("--release needs --ranker and --strategies, such as '{hand_set: strategy/hand_set}'")
    default = args.default or next(iter(strategies))
    reference, fingerprint = None, None
    if args.reference:
        log = LoggedDataset.from_parquet(args.reference)
        scores = {name.removeprefix(SCORE): log[name] for name in log if name.startswith(SCORE)}
        if not scores:
            raise ConfigError(f"--reference {args.reference!r} has no column {SCORE}<task>; give what `scorefusion score` wrote")
        reference, fingerprint = Reference.of(scores), log.fingerprint()
    made = publish_release(
        store,
        args.release,
        ranker=args.ranker,
        strategies=strategies,
        default=default,
        reference=reference,
        data_fingerprint=fingerprint,
    )
    loose = [key for key, label in made.config["strategies"].items() if not store.find(label).manifest["parents"].get("ranker")]
    said = "drift is measured from " + args.reference if reference else "without --reference no drift is measured"
    warning = f"; {', '.join(loose)} names no ranker, so nothing says that it fits" if loose else ""
    return f"{made.path}: {made.config['ranker']} with {', '.join(strategies)} (default {default}); {said}{warning}"


def export_graph(store: ArtefactStore, label: str | None, path: Path) -> str:
    """Write a published ranker as a graph, compared with the ranker itself."""
    if not label:
        raise ConfigError("--export needs --ranker, the label of a published ranker")
    if path.suffix not in (".onnx", ".pt2"):
        raise ConfigError(f"--export {str(path)!r} must end in .onnx or .pt2")
    from ranker import export  # here: the other forms of this verb need no torch
    from ranker.predictor import Predictor

    artefact = store.find(label)
    predictor = Predictor.load(artefact)
    rows = export.example_rows(predictor)
    program = export.export(predictor, rows)
    what = "equal to the ranker"
    if path.suffix == ".onnx":
        content = export.to_onnx(program, rows, predictor.scored)
        gap = export.onnx_gap(content, predictor, rows)
        what = "not compared, onnxruntime is not installed" if gap is None else f"within {gap:.1e} of the ranker in onnxruntime"
        write_whole(path, content)
    else:
        export.save(program, path)
    return f"{path}: {artefact.label} for any number of candidates, {what}"


def listing(store: ArtefactStore) -> str:
    """Every published version, newest last."""
    rows = []
    for kind in KINDS:
        for name in store.names(kind):
            for version in store.versions(kind, name):
                manifest = store.load(kind, name, version).manifest
                what = manifest["config"].get("model") or manifest["config"].get("strategy") or ""
                rows.append([f"{kind}/{name}/{version}", what, manifest["parents"].get("ranker", "")])
    if not rows:
        raise ConfigError(f"nothing is published below {str(store.root)!r}; start with `scorefusion train`")
    print(table(["artefact", "what", "made for"], rows))
    return f"{store.root}: {len(rows)} artefacts"

"""The house keeps its own rules: file sizes, first lines, fixed door, no secrets of the machine that built it."""

import ast
import graphlib
import re
import subprocess
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("core", "ranker", "fusion", "simulator", "experiment", "serving", "workflow")


def sources() -> list[Path]:
    """Every Python file that git tracks."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout: nothing to list")
    return [ROOT / name for name in listed if (ROOT / name).exists()]


def test_no_file_is_longer_than_400_lines() -> None:
    long = {str(path.relative_to(ROOT)): n for path in sources() if (n := len(path.read_text().splitlines())) > 400}
    assert long == {}


def test_every_file_says_its_idea_first() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_no_import_cycles() -> None:
    graph = grimp.build_graph(*PACKAGES, "bench", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # CycleError names the modules of a cycle


def test_every_package_ships_its_types() -> None:
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").exists()] == []


def test_nothing_from_outside_is_unpickled_or_evaluated() -> None:
    """No call of eval, exec, pickle.load(s), torch.load without weights_only, or yaml.load in the shipped packages."""
    found = []
    for path in sources():
        name = str(path.relative_to(ROOT))
        if name.split("/")[0] not in PACKAGES or name == "fusion/checks.py":  # that one pickles and reads back its own objects
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _dangerous(node):
                found.append(f"{name}:{node.lineno}")
    assert found == []


def _dangerous(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name == "torch.load":
        return not any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
    return name in {
        "eval",
        "exec",
        "pickle.load",
        "pickle.loads",
        "cloudpickle.load",
        "cloudpickle.loads",
        "yaml.load",
        "joblib.load",
    }


def test_the_guard_sees_what_it_forbids() -> None:
    bad = ["eval('1')", "pickle.loads(b)", "torch.load(f)", "yaml.load(f)", "torch.load(f, weights_only=False)"]
    good = ["torch.load(f, weights_only=True)", "yaml.safe_load(f)", "model.eval()"]
    calls = [ast.parse(text).body[0] for text in [*bad, *good]]
    verdicts = [_dangerous(node.value) for node in calls if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    assert verdicts == [True] * len(bad) + [False] * len(good)


def test_no_path_of_a_build_machine_is_tracked() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    pattern = re.compile(r"/(?:home/\w+|root|work)/[\w.]+|/tmp/sf\b")
    texts = (".py", ".md", ".toml", ".yaml", ".json", ".txt", ".html")
    hits = [
        name
        for name in listed
        if name.endswith(texts) and name != "tests/test_house.py" and (ROOT / name).exists()
        if pattern.search((ROOT / name).read_text(errors="replace"))
    ]
    assert hits == []

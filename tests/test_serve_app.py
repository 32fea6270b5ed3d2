"""The door: `serve_app.py` builds `app` and does nothing else."""

import ast
from pathlib import Path

DOOR = Path(__file__).resolve().parent.parent / "serve_app.py"
KNOWN = {"os", "deployments", "Settings", "serving", "serving.settings"}


def test_the_door_holds_nothing_but_the_app() -> None:
    docstring, *rest = ast.parse(DOOR.read_text()).body
    assert isinstance(docstring, ast.Expr)
    imports = [node for node in rest if isinstance(node, ast.Import | ast.ImportFrom)]
    (assignment,) = [node for node in rest if node not in imports]
    assert isinstance(assignment, ast.Assign)
    assert ast.unparse(assignment.targets[0]) == "app"
    froms = {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert froms | {alias.name for node in imports for alias in node.names} <= {
        "os",
        "deployments",
        "Settings",
        "serving",
        "serving.settings",
    }

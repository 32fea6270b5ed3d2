"""Artefacts appear whole or not at all, and a damaged, foreign or misplaced one is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from core.artefacts import Artefact, ArtefactStore, json_bytes, tensors, write_whole
from core.errors import ArtefactError


def publish(root: Path) -> Artefact:
    files = {"weights.safetensors": tensors({"w": np.arange(4.0)}), "spec.json": json_bytes({"a": 1})}
    return ArtefactStore(root).publish("ranker", "demo", files, config={"width": 8}, seed=3, parents={"log": "x"})


def test_what_was_published_is_what_is_read(tmp_path: Path) -> None:
    made = publish(tmp_path)
    found = ArtefactStore(tmp_path).find("ranker/demo")
    assert found.label == made.label == "ranker/demo/v1"
    assert found.config == {"width": 8}
    assert (found.manifest["seed"], found.manifest["parents"]) == (3, {"log": "x"})
    assert found.manifest["packages"]["numpy"] == np.__version__
    np.testing.assert_array_equal(found.read_tensors("weights.safetensors")["w"], np.arange(4.0))
    assert found.read_json("spec.json") == {"a": 1}


def test_versions_count_and_ten_follows_nine(tmp_path: Path) -> None:
    for _ in range(10):
        publish(tmp_path)
    assert ArtefactStore(tmp_path).versions("ranker", "demo") == [f"v{i}" for i in range(1, 11)]
    assert ArtefactStore(tmp_path).latest("ranker", "demo") == "v10"


def test_concurrent_publishers_get_different_versions(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        labels = list(pool.map(lambda _: publish(tmp_path).label, range(24)))
    assert len(set(labels)) == 24


def test_same_input_same_bytes(tmp_path: Path) -> None:
    one, two = publish(tmp_path / "a"), publish(tmp_path / "b")
    for file in ("manifest.json", "weights.safetensors", "spec.json"):
        assert (one.path / file).read_bytes() == (two.path / file).read_bytes()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: (p / "weights.safetensors").write_bytes(b"x"), "is damaged"),
        (lambda p: (p / "weights.safetensors").unlink(), "cannot be read"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (lambda p: (p / "manifest.json").write_text('{"format": "other"}'), "not a scorefusion artefact"),
        (lambda p: (p / "manifest.json").unlink(), "no artefact"),
    ],
)
def test_damage_is_refused(tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    path = publish(tmp_path).path
    damage(path)
    with pytest.raises(ArtefactError, match=says):
        ArtefactStore(tmp_path).load("ranker", "demo", "v1").read_tensors("weights.safetensors")


def test_a_moved_artefact_is_refused(tmp_path: Path) -> None:
    path = publish(tmp_path).path
    shutil.copytree(path, tmp_path / "strategy" / "demo" / "v1")
    with pytest.raises(ArtefactError, match="its manifest says kind 'ranker'"):
        ArtefactStore(tmp_path).load("strategy", "demo")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a" * 101])
def test_names_cannot_leave_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtefactError, match="may hold letters"):
        ArtefactStore(tmp_path).publish("ranker", name, {}, config={})


def test_a_file_the_manifest_does_not_list_is_not_read(tmp_path: Path) -> None:
    made = publish(tmp_path)
    (made.path / "extra.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"has no file 'extra\.json'"):
        made.read("extra.json")


def test_kill_9_while_publishing_leaves_only_whole_versions(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from core.artefacts import ArtefactStore, tensors\n"
        "store = ArtefactStore(sys.argv[1])\n"
        "while True:\n"
        "    store.publish('ranker', 'demo', {'w.safetensors': tensors({'w': np.arange(2e5)})}, config={})\n"
    )
    for delay_s in (0.02, 0.07):
        child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], start_new_session=True)
        store = ArtefactStore(tmp_path)
        before = len(store.versions("ranker", "demo"))
        deadline = time.monotonic() + 60
        while len(store.versions("ranker", "demo")) < before + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay_s)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        versions = store.versions("ranker", "demo")
        assert len(versions) >= before + 2
        for version in versions:
            assert len(store.load("ranker", "demo", version).read_tensors("w.safetensors")["w"]) == 200_000


def test_manifest_is_strict_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        ArtefactStore(tmp_path).publish("ranker", "demo", {}, config={"x": float("nan")})
    assert ArtefactStore(tmp_path).versions("ranker", "demo") == []
    assert json.loads(publish(tmp_path).path.joinpath("manifest.json").read_text())["format"] == "scorefusion-artefact/1"


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    assert write_whole(tmp_path / "new" / "graph.onnx", b"graph").read_bytes() == b"graph"
    (tmp_path / "full").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "full", b"graph")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "new"]

"""Install each benchmark peer into an environment of its own (`make peers`): their pins never reach ours.

Standard library only, so that any Python 3.9+ can run it. Finished environments are left alone; a peer that
cannot be installed is said plainly, its figures stay null, and the other peers are still installed.

usage: python bench/peers/install.py [NAME ...] [--again]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TORCH = "torch==2.13.*"


@dataclass(frozen=True)
class Peer:
    """What a peer needs: requirements installed as pip resolves them, then some without their dependencies."""

    name: str
    requirements: tuple[str, ...]
    bare: tuple[str, ...] = ()
    proof: str = ""

    @property
    def stamp(self) -> str:
        """What a finished environment was made from."""
        return json.dumps([self.requirements, self.bare])


# recsim 0.2.4 asks for TensorFlow and Dopamine, which only its agents use: its environments run without (recsim_worker.py).
PEERS = {
    peer.name: peer
    for peer in (
        Peer("rechub", (TORCH, "torch-rechub==0.9.0"), proof="import torch_rechub.models.multi_task, torch_rechub.trainers"),
        Peer("d3rlpy", (TORCH, "d3rlpy==2.8.1"), proof="import d3rlpy.algos"),
        Peer("deepctr", (TORCH, "requests", "deepctr-torch==0.3.0"), proof="import deepctr_torch.models"),
        Peer(
            "recsim",
            ("numpy<2", "scipy", "six", "absl-py", "gin-config", "gym==0.26.2", "setuptools<81", "wheel"),
            bare=("recsim==0.2.4",),
            proof="from bench.peers.recsim_worker import build; build(n_candidates=5, page_size=2)",
        ),
    )
}

Run = Callable[[Sequence[str]], int]


def environment(name: str, root: Path = ROOT) -> Path:
    """The folder of a peer's environment."""
    return root / f".venv-peers-{name}"


def installed(peer: Peer, root: Path = ROOT) -> bool:
    """Whether the environment was finished, from the same requirements."""
    stamp = environment(peer.name, root) / ".installed"
    return stamp.is_file() and stamp.read_text() == peer.stamp


def install(peer: Peer, root: Path = ROOT, *, run: Run | None = None, create: Callable[[Path], None] | None = None) -> bool:
    """Make the environment, install, prove that the peer imports, and stamp it. Returns whether it stands."""
    call = run or _run
    folder = environment(peer.name, root)
    python = str(folder / "bin" / "python")
    (folder / ".installed").unlink(missing_ok=True)
    if not Path(python).exists():
        shutil.rmtree(folder, ignore_errors=True)
        (create or _create)(folder)
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    steps = [[*pip, *peer.requirements]]
    if peer.bare:
        steps.append([*pip, "--no-deps", "--no-build-isolation", *peer.bare])
    steps.append([python, "-W", "ignore", "-c", peer.proof])
    for step in steps:
        if call(step) != 0:
            print(f"  {peer.name}: failed at {' '.join(step)}", file=sys.stderr, flush=True)
            return False
    (folder / ".installed").write_text(peer.stamp)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Install the named peers, all by default; exit 1 when one does not stand."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)}; all by default")
    parser.add_argument("--again", action="store_true", help="install even what is already there")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.names) - set(PEERS))
    if unknown:
        parser.error(f"unknown peer {unknown[0]!r}; peers are {', '.join(PEERS)}")
    chosen = [PEERS[name] for name in args.names or PEERS]
    missing = []
    for i, peer in enumerate(chosen, 1):
        where = environment(peer.name).name
        if installed(peer) and not args.again:
            print(f"[{i}/{len(chosen)}] {peer.name}: already in {where}", flush=True)
            continue
        print(f"[{i}/{len(chosen)}] {peer.name}: installing into {where} ...", flush=True)
        start = time.monotonic()
        stands = install(peer)
        print(
            f"  {'ready' if stands else 'NOT installed: its figures will be null'} ({time.monotonic() - start:.0f} s)", flush=True
        )
        if not stands:
            missing.append(peer.name)
    print(f"peers ready: {len(chosen) - len(missing)} of {len(chosen)}" + (f"; missing: {', '.join(missing)}" if missing else ""))
    return 1 if missing else 0


def _run(command: Sequence[str]) -> int:
    return subprocess.run(command, check=False, cwd=ROOT).returncode


def _create(folder: Path) -> None:
    venv.create(folder, with_pip=True, symlinks=True)


if __name__ == "__main__":
    sys.exit(main())

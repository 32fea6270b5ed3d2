"""End to end over HTTP: the readout of a policy's bucket finds the sign and size that the simulator knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
from examples.policy_bucket import main
if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), n_users=500, n_items=300, n_sessions=800, n_updates=300)))
"""


def test_the_readout_finds_what_the_simulator_knows(tmp_path: Path) -> None:
    """In a process of its own, as ray must be started with its settings; the seeds are fixed, so it comes out the same."""
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(tmp_path / "work")]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=840)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["failed"] == 0
    _, low, high = found["readout"]
    _, true_low, true_high = found["truth"]
    assert low > 0, found  # the right sign, beyond doubt
    assert true_low > 0, found
    assert low < true_high, found  # and the right size: the intervals meet
    assert true_low < high, found

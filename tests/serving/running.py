"""A service in a process of its own for tests: started, watched, killed in part or whole, always cleaned up by its own pids."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from serving.client import Client
from serving.settings import Settings


def free_port() -> int:
    """A port nobody listens on now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """`scorefusion serve` on a free port, in its own session."""

    def __init__(self, settings: Settings) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = Path(settings.work_dir)
        values = {name: value for name, value in settings.public().items() if name != "admin_token"}
        self._config = self.folder / "serve.json"
        self._config.write_text(json.dumps({**values, "port": self.port}))
        self._descendants: list[psutil.Process] = []
        self.driver: subprocess.Popen[bytes] | None = None

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the driver; it may take a while until it is ready."""
        log = (self.folder / "driver.log").open("ab")
        command = [sys.executable, "-m", "workflow.cli", "serve", "--config", str(self._config)]
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "SCOREFUSION_ADMIN_TOKEN": "test-token"}
        self.driver = subprocess.Popen(command, stdout=log, stderr=log, env=environ, start_new_session=True)
        log.close()
        return self.driver

    def start(self, wait_s: float = 150.0) -> Running:
        """Start and wait until it is ready."""
        driver = self.launch()
        deadline = time.monotonic() + wait_s
        with Client(self.url, timeout_s=5.0) as client:
            while not client.ready():
                assert driver.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.2)
        self._remember()
        return self

    def log(self) -> str:
        """What the driver printed."""
        return (self.folder / "driver.log").read_text()[-4000:]

    def pids(self, name: str) -> list[int]:
        """Processes of a deployment's replicas, by its name."""
        self._remember()
        return [p.pid for p in self._descendants if p.is_running() and f"ServeReplica:default:{name}" in _title(p)]

    def kill(self, pid: int) -> None:
        """kill -9 of one of the service's own processes."""
        assert pid in {p.pid for p in self._descendants}
        os.kill(pid, signal.SIGKILL)

    def kill_driver(self) -> None:
        """kill -9 of the driver; everything it started must go by itself."""
        assert self.driver is not None
        self._remember()
        self.driver.kill()
        self.driver.wait()

    def gone(self, wait_s: float = 30.0) -> list[str]:
        """Descendants that still live after a while; ray's own agents, which hold nothing of ours, may take longer."""
        ours = [p for p in self._descendants if p.is_running() and "Agent" not in _title(p)]
        _, alive = psutil.wait_procs(ours, timeout=wait_s)
        return [_title(p) for p in alive if p.status() != psutil.STATUS_ZOMBIE]

    def stop(self, wait_s: float = 60.0) -> int:
        """SIGTERM, as an operator would; the exit code."""
        assert self.driver is not None
        self._remember()
        if self.driver.poll() is None:
            self.driver.send_signal(signal.SIGTERM)
        return self.driver.wait(wait_s)

    def clean(self) -> None:
        """Kill what is left of this service, by pid."""
        self._remember()
        if self.driver is not None and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        for process in self._descendants:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _remember(self) -> None:
        if self.driver is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            known = {p.pid for p in self._descendants}
            self._descendants += [p for p in psutil.Process(self.driver.pid).children(recursive=True) if p.pid not in known]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def events(request_id: str, items: list[int], task: str = "click") -> list[dict[str, Any]]:
    """One event an item, with ids that tell them apart."""
    return [
        {"event_id": f"{request_id}-{i}-{task}", "request_id": request_id, "item_id": i, "task": task, "value": 1} for i in items
    ]

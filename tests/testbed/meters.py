"""Servers that keep figures: Prometheus, VictoriaMetrics and InfluxDB 1."""

from __future__ import annotations

import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType

from tests.testbed import scratch
from tests.testbed.daemon import Daemon
from tests.testbed.errors import program
from tests.testbed.ports import answers, free_port

DATABASE = "testbed"


class Meter:
    """A context manager: one server of ``kind`` prometheus, victoria-metrics or influxdb, on a port of its own."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = scratch.folder(kind)
        self._daemon = Daemon(kind, self._argv(), folder=self.folder, ready=self._is_ready, deadline_s=90)

    def __enter__(self) -> Meter:
        self._daemon.start()
        if self.kind == "influxdb":
            self.ask("/query", {"q": f"CREATE DATABASE {DATABASE}"}, post=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._daemon.close()

    def stop(self) -> None:
        """End the server; its data stays."""
        self._daemon.stop()

    def start(self) -> None:
        """Start it again on the same port."""
        self._daemon.start()

    def ask(self, path: str, query: dict[str, str], *, data: bytes = b"", post: bool = False) -> bytes:
        """What the server answers."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, data=data if data or post else None, method="POST" if post else "GET")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def write(self, lines: str) -> None:
        """Keep points of InfluxDB's line protocol: ``latency,site=here value=12``."""
        self.ask("/write", {"db": DATABASE}, data=lines.encode(), post=True)

    def _is_ready(self) -> bool:
        return answers("127.0.0.1", self.port)

    def _argv(self) -> list[str]:
        address = f"127.0.0.1:{self.port}"
        if self.kind == "prometheus":
            (self.folder / "prometheus.yml").write_text("global: {scrape_interval: 1s}\n")
            return [
                program("prometheus"),
                f"--config.file={self.folder}/prometheus.yml",
                f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address={address}",
            ]
        if self.kind == "victoria-metrics":
            return [
                program("victoria-metrics"),
                f"-storageDataPath={self.folder}/data",
                f"-httpListenAddr={address}",
                "-search.latencyOffset=0s",
                "-search.disableCache",
            ]
        return [program("influxd"), "-config", str(self._influx_config(address))]

    def _influx_config(self, address: str) -> Path:
        data = self.folder / "data"
        path = self.folder / "influxdb.conf"
        path.write_text(
            f"""reporting-disabled = true
bind-address = "127.0.0.1:{free_port()}"
[meta]
  dir = "{data}/meta"
[data]
  dir = "{data}/data"
  wal-dir = "{data}/wal"
[http]
  enabled = true
  bind-address = "{address}"
"""
        )
        return path

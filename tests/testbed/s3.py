"""A server that speaks S3, with one empty bucket: moto's, in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import urllib.request

from tests.testbed.errors import MissingProgram
from tests.testbed.ports import answers, free_port
from tests.testbed.server import Server
from tests.testbed.waiting import wait_for

BUCKET = "testbed"


class S3Server(Server):
    """A context manager; up in about a second. What it keeps is in its memory."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/some/prefix"

    @property
    def options(self) -> dict[str, object]:
        """What a client must be told to reach it."""
        return {
            "endpoint": f"http://127.0.0.1:{self.port}",
            "access_key_id": "testbed",
            "secret_access_key": "testbed",
            "region": "us-east-1",
            "client_options": {"allow_http": True},
            "retry_config": {"max_retries": 1},
        }

    def start(self) -> None:
        """Start it and make the bucket."""
        if importlib.util.find_spec("moto") is None:
            raise MissingProgram("moto is not installed: run scripts/install-test-s3 .venv/bin/python")
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(lambda: answers("127.0.0.1", self.port), "moto's server to answer", deadline_s=60)
        make = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{BUCKET}",
            method="PUT",
            # It checks no signature, but tells from this header which service is meant.
            headers={"Authorization": "AWS4-HMAC-SHA256 Credential=testbed/20300101/us-east-1/s3/aws4_request"},
        )
        with urllib.request.urlopen(make):
            pass

    def stop(self) -> None:
        """End it; what it kept is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

"""Reports and log pushed over HTTP and HTTPS to a server of the standard library that keeps what it gets."""

from __future__ import annotations

import datetime
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.proxies import SiteFolder
from tests.testbed.waiting import wait_for

TOKEN = "attempt-token"


@dataclass
class Api:
    """A server that takes pushes as the control plane does: what begins where it stands, and no more."""

    url: str = ""
    reports: bytes = b""
    log: bytes = b""
    status: int = 200  # what it answers with
    requests: list[str] = field(default_factory=list)
    ca_pem: str = ""
    refused: int = 0

    def take(self, kind: str, begin: int, data: bytes) -> int:
        known: bytes = getattr(self, kind)
        if begin <= len(known):
            setattr(self, kind, known + data[len(known) - begin :])
        return len(getattr(self, kind))


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            path, _, query = self.path.partition("?")
            api.requests.append(path)
            status, answer = api.status, b"{}"
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                status = 401
            if status == 200 and path.endswith("/reports"):
                said = json.loads(body)
                answer = json.dumps({"next": api.take("reports", said["from"], said["reports"].encode())}).encode()
            elif status == 200:
                answer = json.dumps({"next": api.take("log", int(query.removeprefix("from=")), body)}).encode()
            else:
                api.refused += 1
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@pytest.fixture(params=["http", "https"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    made = Api()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    if request.param == "https":
        made.ca_pem = _certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    made.url = f"{request.param}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


def _certificate(folder: Path) -> str:
    """A certificate that signs itself, for a name that is not the address: pinned, it is trusted all the same."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "elsewhere.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem.decode()


def start(site: SiteFolder, api: Api, *command: str, token: str = TOKEN, **job: Any) -> Any:
    folder = site.write_job("1.1-a", *command, api={"url": api.url, "ca_pem": api.ca_pem}, **job)
    (folder / "secrets.json").write_text(json.dumps({"": token}))
    return site.start("1.1-a", {"no_proxy": "127.0.0.1"})


def test_reports_and_log_arrive_while_it_runs_and_whole(site: SiteFolder, api: Api) -> None:
    script = "echo isthmus: loss=0.5; echo hello; while [ ! -e stop ]; do sleep 0.05; done; echo last words\n"
    with start(site, api, script=script) as runner:
        wait_for(lambda: b'"loss":0.5' in api.reports and b"hello" in api.log, "metrics and log")
        assert runner.poll() is None
        (site.job("1.1-a") / "work/stop").touch()
        runner.wait(30)
    assert api.reports == (site.job("1.1-a") / "reports").read_bytes()
    assert api.log == (site.job("1.1-a") / "log").read_bytes()
    assert json.loads(api.reports.split(b"\n")[0])["reaches_api"] is True
    assert set(api.requests) == {"/v1/attempts/1.1-a/reports", "/v1/attempts/1.1-a/log"}


@pytest.mark.parametrize("status", [401, 403, 410])
def test_a_token_that_is_refused_ends_it_for_good(site: SiteFolder, api: Api, status: int) -> None:
    api.status = status
    with start(site, api, "sh", "-c", "while [ ! -e stop ]; do echo isthmus: x=1; sleep 0.05; done") as runner:
        wait_for(lambda: len(site.reports("1.1-a")) > 3, "metrics")
        (site.job("1.1-a") / "work/stop").touch()
        runner.wait(30)
    assert api.refused == 1, "one request, and no other after it"
    assert site.reports("1.1-a")[-1]["reason"] == ""


def test_another_token_than_the_attempts(site: SiteFolder, api: Api) -> None:
    with start(site, api, "true", token="wrong") as runner:
        runner.wait(30)
    assert api.reports == b"" and site.reports("1.1-a")[-1]["reason"] == ""


def test_trouble_passes(site: SiteFolder, api: Api) -> None:
    """The server fails for a while: what was meant for it then comes later, once and whole."""
    api.status = 503
    with start(site, api, "sh", "-c", "echo isthmus: x=1; while [ ! -e stop ]; do sleep 0.05; done") as runner:
        wait_for(lambda: api.refused >= 2, "two failures")
        api.status = 200
        wait_for(lambda: b'"x":1' in api.reports, "the metrics")
        (site.job("1.1-a") / "work/stop").touch()
        runner.wait(30)
    assert api.reports == (site.job("1.1-a") / "reports").read_bytes()


def test_the_control_plane_has_a_part_already(site: SiteFolder, api: Api) -> None:
    """The proxy has brought the first reports: what is pushed goes on from there."""
    with start(site, api, "sh", "-c", "while [ ! -e stop ]; do sleep 0.05; done") as runner:
        site.wait_report("1.1-a", "started")
        api.reports = (site.job("1.1-a") / "reports").read_bytes()
        (site.job("1.1-a") / "work/stop").touch()
        runner.wait(30)
    assert api.reports == (site.job("1.1-a") / "reports").read_bytes()


def test_a_server_that_is_not_the_pinned_one(site: SiteFolder, api: Api, tmp_path: Path) -> None:
    if not api.ca_pem:
        return  # plain HTTP pins nothing
    (tmp_path / "other").mkdir()
    api.ca_pem = _certificate(tmp_path / "other")
    with start(site, api, "true") as runner:
        runner.wait(30)
    assert api.requests == [] and site.reports("1.1-a")[0]["reaches_api"] is False


def test_no_route(site: SiteFolder, api: Api) -> None:
    api.url = "http://127.0.0.1:1"
    with start(site, api, "true") as runner:
        runner.wait(30)
    reports = site.reports("1.1-a")
    assert (reports[0]["reaches_api"], reports[-1]["reason"]) == (False, "")

"""Catalogues of prices from files and URLs, in YAML, JSON and the CSV that others give away."""

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from isthmus.client import catalogues
from isthmus.domain.errors import Invalid, Unavailable

OURS = """
currency: EUR
offers:
  aws/p3.2xlarge@eu-central-1: {hour: 3.8, gpus: 1, gpu_type: v100}
energy:
  DE: {kwh: 0.28, pue: 1.2}
"""
TABLE = """InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,SpotPrice,Region,AvailabilityZone
p3.2xlarge,V100,1.0,8.0,61.0,3.06,0.92,us-east-1,us-east-1a
p3.2xlarge,V100,1.0,8.0,61.0,3.06,0.90,us-east-1,us-east-1b
c5.large,,,2.0,4.0,0.085,,us-east-1,us-east-1a
gone.1,,,2.0,4.0,,,us-east-1,us-east-1a
"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_our_own_form(tmp_path: Path, url: str) -> None:
    (tmp_path / "prices.yaml").write_text(OURS)
    found = catalogues.read(str(tmp_path / "prices.yaml"))
    assert found.offers["aws/p3.2xlarge@eu-central-1"].hour == 3.8
    assert found.energy["DE"].at(13) == pytest.approx(0.336)
    fetched = catalogues.read(f"{url}/prices.yaml")
    assert (fetched.offers, fetched.source) == (found.offers, f"{url}/prices.yaml")


def test_a_table_of_offers(tmp_path: Path) -> None:
    (tmp_path / "aws.csv").write_text(TABLE)
    offers = catalogues.read(str(tmp_path / "aws.csv")).offers
    assert set(offers) == {"aws/p3.2xlarge@us-east-1", "aws/c5.large@us-east-1"}
    gpu = offers["aws/p3.2xlarge@us-east-1"]
    assert (gpu.hour, gpu.spot_hour, gpu.gpu_type, gpu.gpus) == (3.06, 0.90, "V100", 1.0)
    assert "mine/c5.large@us-east-1" in catalogues.read(str(tmp_path / "aws.csv"), prefix="mine").offers


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.yaml", "offers: {x: {hour: -1}}", "offers.x.hour: -1 can't be"),
        ("a.yaml", "offers: {x: {hour: 1, spot_hous: 1}}", "Did you mean 'spot_hour'?"),
        ("a.yaml", "energy: {DE: {kwh: 0.3, by_hour: [1, 2]}}", "energy.DE.by_hour: 2 prices are not one for each"),
        ("a.yaml", "energy: {DE: {kwh: 0.3, pue: 0.5}}", "energy.DE.pue"),
        ("a.csv", "Instance,Price\nx,1\n", "a.csv:1: The table has no column InstanceType"),
        ("a.csv", "InstanceType,Price,Region\nx,much,eu\n", "a.csv:2: 'much' is not a number"),
        ("a.csv", "InstanceType,Price,Region\n", "no offer in it"),
        ("none/a.yaml", None, "There is no such file"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(Invalid) as caught:
        catalogues.read(str(tmp_path / name))
    assert words in str(caught.value)


def test_a_url_that_does_not_answer_or_has_nothing(url: str) -> None:
    with pytest.raises(Unavailable, match="answered 404"):
        catalogues.read(f"{url}/none.yaml")
    with pytest.raises(Unavailable, match="can't be reached"):
        catalogues.read("http://127.0.0.1:9/none.yaml")

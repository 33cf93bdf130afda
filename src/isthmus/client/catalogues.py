"""Catalogues of prices, read from a file or a URL: our own form in YAML or JSON, or a table of offers in CSV.

The table's columns are those that several tools give away: InstanceType, Price, Region, and if there are SpotPrice,
vCPUs, MemoryGiB, AcceleratorName, AcceleratorCount. An offer's name is ``PREFIX/TYPE@REGION``.
"""

import csv
import dataclasses
import io
from pathlib import Path

from isthmus import codec, documents
from isthmus.domain.errors import Invalid, Unavailable
from isthmus.domain.placement import Catalogue, Offer, check_catalogue

MAX_BYTES = 64 << 20
_NEEDED = ("InstanceType", "Price", "Region")


def read(source: str, *, prefix: str = "") -> Catalogue:
    """The catalogue in a file or at a URL; blocks. ``prefix``: of offers' names in CSV; "": the file's own name.

    Raises Invalid with the line, Unavailable where the URL can't be had.
    """
    if source.startswith(("http://", "https://")):
        text = _fetch(source)
    else:
        text = documents.read_text(Path(source), most_bytes=MAX_BYTES)
    return parse(text, source, prefix=prefix)


def parse(text: str, source: str, *, prefix: str = "") -> Catalogue:
    """The catalogue that a text is, by the ending of the name of where it came from. Raises Invalid with the line."""
    name = source.rstrip("/").rpartition("/")[2].partition("?")[0]
    if name.lower().endswith(".csv"):
        found = _table(text, prefix or name[:-4], source)
    else:
        found = codec.read(Catalogue, documents.parse(text, source) or {})
    found = dataclasses.replace(found, source=source)
    check_catalogue(found)
    return found


def _fetch(url: str) -> str:
    import httpx

    try:
        answer = httpx.get(url, follow_redirects=True, timeout=60.0)
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise Unavailable(f"{url} answered {error.response.status_code}.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"{url} can't be reached: {error}.") from error
    if len(answer.content) > MAX_BYTES:
        raise Invalid("It is too big to be a catalogue.", place=url)
    return answer.text


def _table(text: str, prefix: str, source: str) -> Catalogue:
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in _NEEDED if name not in (rows.fieldnames or ())]
    if missing:
        raise Invalid(
            f"The table has no column {missing[0]}.", place=f"{source}:1", hint=f"It needs {', '.join(_NEEDED)}."
        )
    offers: dict[str, Offer] = {}
    for row in rows:
        place = f"{source}:{rows.line_num}"
        hour = _number(row.get("Price"), place)
        if hour is None or not row["InstanceType"]:
            continue  # offered nowhere, or only as spot
        name = f"{prefix}/{row['InstanceType']}" + (f"@{row['Region']}" if row["Region"] else "")
        offer = Offer(
            hour=hour,
            spot_hour=_number(row.get("SpotPrice"), place),
            cpus=_number(row.get("vCPUs"), place) or 0.0,
            mem_gib=_number(row.get("MemoryGiB"), place) or 0.0,
            gpus=_number(row.get("AcceleratorCount"), place) or 0.0,
            gpu_type=row.get("AcceleratorName") or "",
            region=row["Region"] or "",
        )
        known = offers.get(name)
        if known is None:
            offers[name] = offer
        else:  # another zone of the region: the cheapest counts
            spots = [one for one in (known.spot_hour, offer.spot_hour) if one is not None]
            offers[name] = dataclasses.replace(
                known, hour=min(known.hour, offer.hour), spot_hour=min(spots, default=None)
            )
    if not offers:
        raise Invalid("There is no offer in it.", place=source)
    return Catalogue(offers=offers)


def _number(text: str | None, place: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{text!r} is not a number.", place=place) from None

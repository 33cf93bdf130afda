"""Images: what each engine is given, and what is done before."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from isthmus.data import images
from isthmus.data.requirements import Content
from isthmus.domain.artefacts import ImageFormat
from isthmus.domain.errors import Conflict, Invalid
from isthmus.domain.sites import Inventory, SiteSpec

DIGITS = "ab" * 32


def image(format: ImageFormat, reference: str = "") -> Content:
    digest = "" if reference else f"sha256:{DIGITS}"
    return Content(label="image py@1", digest=digest, size=1, format=format, reference=reference)


def recipe(content: Content, engine: str, *, login_runs: bool = True, **inventory: object) -> images.Recipe:
    spec = SiteSpec(name="site", setup=("module load apptainer",))
    found = Inventory(engines={engine: "1"}, **inventory)  # type: ignore[arg-type]
    return images.recipe(content, spec, found, login_runs=login_runs)


@pytest.mark.parametrize(
    ("format", "engine", "runs"),
    [
        (ImageFormat.SIF, "apptainer", f"cache/{DIGITS}"),
        (ImageFormat.SIF, "singularity", f"cache/{DIGITS}"),
        (ImageFormat.SQUASHFS, "charliecloud", f"cache/{DIGITS}"),
        (ImageFormat.FOLDER, "podman", f"cache/{DIGITS}"),
        (ImageFormat.OCI_ARCHIVE, "podman", f"cache/{DIGITS}"),
        (ImageFormat.OCI_ARCHIVE, "charliecloud", f"cache/{DIGITS}.root"),
        (ImageFormat.DOCKER_ARCHIVE, "apptainer", f"cache/{DIGITS}.sif"),
    ],
)
def test_what_the_engine_is_told(format: ImageFormat, engine: str, runs: str) -> None:
    assert recipe(image(format), engine).image == runs


def test_an_archive_becomes_a_sif_by_the_site_s_own_engine() -> None:
    made = recipe(image(ImageFormat.DOCKER_ARCHIVE), "apptainer")
    assert made.prepare is not None and made.otherwise is not None
    assert made.prepare["setup"] == ["module load apptainer"]
    assert made.prepare["commands"] == [
        ["apptainer", "build", "--force", "{part}", f"docker-archive:{{workdir}}/cache/{DIGITS}"]
    ]
    assert made.otherwise.prepare is not None and made.otherwise.prepare["op"] == "layers"


def test_without_the_engine_on_the_login_node_layers_are_unpacked() -> None:
    made = recipe(image(ImageFormat.OCI_ARCHIVE), "apptainer", login_engines={"podman": "4"})
    assert made.prepare is not None and made.prepare["op"] == "layers"


@pytest.mark.parametrize(
    ("reference", "engine", "login_runs", "commands", "runs"),
    [
        (
            "docker://python:3.12",
            "apptainer",
            False,
            [["apptainer", "build", "--force", "{part}", "docker://python:3.12"]],
            ".sif",
        ),
        (
            "quay.io/a/b:1",
            "apptainer",
            False,
            [["apptainer", "build", "--force", "{part}", "docker://quay.io/a/b:1"]],
            ".sif",
        ),
        ("docker://python:3.12", "podman", True, [["podman", "pull", "python:3.12"]], "python:3.12"),
        ("docker://python:3.12", "podman", False, None, "python:3.12"),
        (
            "docker://python:3.12",
            "charliecloud",
            False,
            [
                ["ch-image", "pull", "python:3.12"],
                ["ch-convert", "-i", "ch-image", "-o", "dir", "python:3.12", "{part}"],
            ],
            ".root",
        ),
        ("/shared/py.sif", "apptainer", False, None, "/shared/py.sif"),
    ],
)
def test_references_are_pulled_by_the_site(
    reference: str, engine: str, login_runs: bool, commands: object, runs: str
) -> None:
    made = recipe(image(ImageFormat.REFERENCE, reference), engine, login_runs=login_runs)
    assert (made.prepare or {}).get("commands") == commands
    assert made.image.endswith(runs)


def test_a_site_s_own_choice_comes_first() -> None:
    spec = SiteSpec(name="site", engine="charliecloud")
    assert (
        images.choose_engine(image(ImageFormat.SQUASHFS), spec, Inventory(engines={"apptainer": "1"})) == "charliecloud"
    )


def test_why_an_image_does_not_run_there() -> None:
    podman = Inventory(engines={"podman": "4"})
    with pytest.raises(
        Conflict, match=r"image py@1 is of format sif, which apptainer and singularity run; site has podman"
    ):
        images.choose_engine(image(ImageFormat.SIF), SiteSpec(name="site"), podman)
    with pytest.raises(Conflict, match="site has no container engine"):
        images.choose_engine(image(ImageFormat.SIF), SiteSpec(name="site", engine="none"), podman)
    with pytest.raises(Conflict, match="site has no container engine"):
        images.choose_engine(image(ImageFormat.SIF), SiteSpec(name="site"), Inventory())
    with pytest.raises(Conflict, match="which apptainer and singularity run"):
        images.choose_engine(image(ImageFormat.REFERENCE, "oras://x/y"), SiteSpec(name="site"), podman)
    with pytest.raises(Conflict, match="docker keeps images on each machine"):
        recipe(image(ImageFormat.OCI_ARCHIVE), "docker", login_runs=False)


def test_docker_says_how_it_named_an_archive() -> None:
    assert images.loaded_name("Loaded image: localhost/tiny:1\n") == "localhost/tiny:1"
    assert images.loaded_name("noise\nLoaded image ID: sha256:12ab\n") == "sha256:12ab"
    with pytest.raises(Invalid):
        images.loaded_name("")


def test_formats_are_found_out_from_the_content(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes(b"#!")
    assert images.detect(root) is ImageFormat.FOLDER
    sif = tmp_path / "x.sif"
    sif.write_bytes(b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0" + b"01\0")
    assert images.detect(sif) is ImageFormat.SIF
    for names, format in (
        (["oci-layout", "index.json", "blobs/sha256/aa"], ImageFormat.OCI_ARCHIVE),
        (["./manifest.json", "./layer.tar"], ImageFormat.DOCKER_ARCHIVE),
        # What newer versions of `docker save` write is both; as an OCI archive it is complete.
        (["manifest.json", "oci-layout", "index.json"], ImageFormat.OCI_ARCHIVE),
    ):
        archive = tmp_path / "a.tar"
        with tarfile.open(archive, "w") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        assert images.detect(archive) is format
    for content in (b"", b"hello", b"PK\3\4"):
        other = tmp_path / "other"
        other.write_bytes(content)
        with pytest.raises(Invalid, match="no image that is known here"):
            images.detect(other)


def test_a_real_squashfs_is_known(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x").write_bytes(b"x")
    try:
        subprocess.run(
            ["mksquashfs", tmp_path / "root", tmp_path / "x.sqfs", "-quiet"], check=True, stdout=subprocess.DEVNULL
        )
    except FileNotFoundError:
        # The superblock's first bytes, by the format's specification.
        (tmp_path / "x.sqfs").write_bytes(b"hsqs" + b"\0" * 92)
    assert images.detect(tmp_path / "x.sqfs") is ImageFormat.SQUASHFS

"""Images: which container engine runs which format, and what must be done with an image at a site first.

    image + engines there ─► Recipe: the engine, what it is told to run, the preparation that makes it ─► job.json

Pure. The preparations are run at the site, each once, by `isthmus.proxy.prepare`; engines are started by
`isthmus.runner.containers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.data.digests import hex_of
from isthmus.data.requirements import Content, pulled_name
from isthmus.domain.artefacts import ImageFormat
from isthmus.domain.errors import Conflict, Invalid
from isthmus.domain.sites import Inventory, SiteSpec

# In the order in which they are preferred where a site has several and names none.
ENGINES = ("apptainer", "singularity", "podman", "charliecloud", "docker")

_SIF_ENGINES = ("apptainer", "singularity")
_ARCHIVES = (ImageFormat.OCI_ARCHIVE, ImageFormat.DOCKER_ARCHIVE)

RUNS: dict[ImageFormat, tuple[str, ...]] = {
    ImageFormat.SIF: _SIF_ENGINES,
    ImageFormat.SQUASHFS: (*_SIF_ENGINES, "charliecloud"),
    ImageFormat.OCI_ARCHIVE: ENGINES,
    ImageFormat.DOCKER_ARCHIVE: ENGINES,
    ImageFormat.FOLDER: ENGINES,
    ImageFormat.REFERENCE: ENGINES,
}

# References that only some engines can pull; what has none of these forms is taken for docker's.
_SCHEMES = {
    "library": _SIF_ENGINES,
    "oras": _SIF_ENGINES,
    "shub": _SIF_ENGINES,
    "docker": ENGINES,
}
_LOCAL_FORMS = {"oci-archive": ImageFormat.OCI_ARCHIVE, "docker-archive": ImageFormat.DOCKER_ARCHIVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a site runs an image.

    ``image`` is what the engine is told: a path (relative to the work folder) or a name. With ``prepare`` a request
    for `Site.prepare` comes first, which makes the entry ``to`` of the cache; ``otherwise`` is what to do when that
    fails.
    """

    engine: str
    image: str
    prepare: Mapping[str, Any] | None = None
    image_from_output: bool = False  # docker says under which name it loaded an archive
    otherwise: "Recipe | None" = None

    @property
    def to(self) -> str:
        return str(self.prepare["to"]) if self.prepare else ""


def engines_for(format: ImageFormat | None, reference: str = "") -> tuple[str, ...]:
    """The engines that can run an image of this format, as it is or after a preparation at the site."""
    if format in (None, ImageFormat.REFERENCE):
        scheme = reference.partition(":")[0]
        return _SCHEMES.get(scheme, ENGINES)
    assert format is not None
    return RUNS[format]


def choose_engine(image: Content, spec: SiteSpec, inventory: Inventory) -> str:
    """The engine for this image at this site. Raises Conflict, code ``image``, saying what would help."""
    fitting = engines_for(image.format, image.reference)
    there = [spec.engine] if spec.engine else list(inventory.engines or inventory.login_engines)
    if there == ["none"] or not there:
        raise Conflict(
            f"{spec.name} has no container engine for {image.label}.",
            hint="Run it elsewhere, or say which one the nodes have with `engine:` in the site's file.",
            code="image",
        )
    for engine in ENGINES:
        if engine in there and engine in fitting:
            return engine
    form = image.format.value if image.format else "reference"
    raise Conflict(
        f"{image.label} is of format {form}, which {' and '.join(fitting)} run; {spec.name} has {', '.join(there)}.",
        hint="Register it also as an oci-archive, which every engine runs.",
        code="image",
    )


def recipe(image: Content, spec: SiteSpec, inventory: Inventory, *, login_runs: bool) -> Recipe:
    """How ``image`` is run at a site. ``login_runs``: jobs run on the machine that we log in to, so what an engine
    keeps there for itself (podman's and docker's stores) is there for the jobs too."""
    engine = choose_engine(image, spec, inventory)
    if not image.digest:
        return _reference(image.reference, engine, spec, login_runs)
    digits = hex_of(image.digest)
    path = f"cache/{digits}"
    if engine == "docker":
        return _docker(digits, image, login_runs)
    if image.format in _ARCHIVES:
        return _archive(digits, path, image.format, engine, spec, inventory)
    return Recipe(engine=engine, image=path)


def _archive(
    digits: str, path: str, format: ImageFormat | None, engine: str, spec: SiteSpec, inventory: Inventory
) -> Recipe:
    if engine == "podman":
        return Recipe(engine=engine, image=path)  # it reads archives by itself, on each node
    root = Recipe(
        engine=engine,
        image=f"cache/{digits}.root",
        prepare={"op": "layers", "to": f"{digits}.root", "source": path},
    )
    if engine == "charliecloud" or (inventory.login_engines and engine not in inventory.login_engines):
        return root
    form = format.value if format else ImageFormat.OCI_ARCHIVE.value
    build = [engine, "build", "--force", "{part}", f"{form}:{{workdir}}/{path}"]
    return Recipe(
        engine=engine,
        image=f"cache/{digits}.sif",
        prepare={"op": "run", "to": f"{digits}.sif", "commands": [build], "setup": list(spec.setup)},
        otherwise=root,
    )


def _docker(digits: str, image: Content, login_runs: bool) -> Recipe:
    if not login_runs:
        raise Conflict(
            f"docker keeps images on each machine: {image.label} can't be brought to this site's nodes.",
            hint="Name a reference that the nodes pull, or another engine in the site's file.",
            code="image",
        )
    path = f"{{workdir}}/cache/{digits}"
    name = f"isthmus-{digits[:32]}"
    if image.format is ImageFormat.FOLDER:
        load = ["sh", "-c", 'tar -C "$1" -c . | docker import - "$2"', "sh", path, name]
        request = {"op": "run", "to": f"{digits}.docker", "commands": [load]}
        return Recipe(engine="docker", image=name, prepare=request)
    request = {"op": "run", "to": f"{digits}.docker", "commands": [["docker", "load", "--input", path]]}
    return Recipe(engine="docker", image="", prepare=request, image_from_output=True)


def _reference(reference: str, engine: str, spec: SiteSpec, login_runs: bool) -> Recipe:
    if reference.startswith("/"):
        return Recipe(engine=engine, image=reference)  # it lies at the site
    scheme, colon, rest = reference.partition("://")
    name = rest if colon and scheme == "docker" else reference
    kept = pulled_name(reference)
    form, _, path = reference.partition(":")
    if form in _LOCAL_FORMS and not colon:
        return _archive_there(kept, reference, path, engine, spec)
    if engine in _SIF_ENGINES:
        source = reference if colon or form in ("dir", "oci", "docker-daemon") else f"docker://{reference}"
        return _run(kept + ".sif", engine, [[engine, "build", "--force", "{part}", source]], spec)
    if engine == "charliecloud":
        commands = [["ch-image", "pull", name], ["ch-convert", "-i", "ch-image", "-o", "dir", name, "{part}"]]
        return _run(kept + ".root", engine, commands, spec)
    if not login_runs:
        return Recipe(engine=engine, image=name)  # each node pulls it when it is first run there
    # The cache keeps only what the pull said; the image is in the engine's own store.
    pulled = _run(kept + f".{engine}", engine, [[engine, "pull", name]], spec)
    return Recipe(engine=engine, image=name, prepare=pulled.prepare)


def _archive_there(kept: str, reference: str, path: str, engine: str, spec: SiteSpec) -> Recipe:
    """An archive that lies at the site outside of our folder."""
    if engine == "podman":
        return Recipe(engine=engine, image=reference)
    if engine == "docker":
        loaded = _run(kept + ".docker", engine, [["docker", "load", "--input", path]], spec)
        return Recipe(engine=engine, image="", prepare=loaded.prepare, image_from_output=True)
    root = Recipe(
        engine=engine,
        image=f"cache/{kept}.root",
        prepare={"op": "layers", "to": f"{kept}.root", "source": path},
    )
    if engine == "charliecloud":
        return root
    sif = _run(kept + ".sif", engine, [[engine, "build", "--force", "{part}", reference]], spec)
    return Recipe(engine=engine, image=sif.image, prepare=sif.prepare, otherwise=root)


def _run(to: str, engine: str, commands: list[list[str]], spec: SiteSpec) -> Recipe:
    request = {"op": "run", "to": to, "commands": commands, "setup": list(spec.setup)}
    return Recipe(engine=engine, image=f"cache/{to}", prepare=request)


def loaded_name(output: str) -> str:
    """The name under which docker loaded an archive, from what it printed. Raises Invalid."""
    for line in output.splitlines():
        for words in ("Loaded image ID:", "Loaded image:"):
            if line.startswith(words):
                return line[len(words) :].strip()
    raise Invalid(f"docker did not say which image it loaded: {output[-200:]!r}", code="image")


def detect(path: Path) -> ImageFormat:
    """The format of an image from its content. Raises Invalid. Blocks."""
    if path.is_dir():
        return ImageFormat.FOLDER
    with path.open("rb") as file:
        head = file.read(64)
    if head[32:42] == b"SIF_MAGIC\0":  # after the launch script's line; SIF specification, global header
        return ImageFormat.SIF
    if head[:4] == b"hsqs":
        return ImageFormat.SQUASHFS
    found = _archive_form(path)
    if found is None:
        raise Invalid(
            f"{path.name} is no image that is known here.",
            place="path",
            hint="There are .sif, .sqfs, OCI and docker archives (podman save, docker save) and root folders.",
            code="image-format",
        )
    return found


def _archive_form(path: Path) -> ImageFormat | None:
    import tarfile

    try:
        with tarfile.open(path) as archive:
            names = {member.name.removeprefix("./") for member in archive}
    except (tarfile.TarError, EOFError, OSError):
        return None
    if "oci-layout" in names and "index.json" in names:
        return ImageFormat.OCI_ARCHIVE
    return ImageFormat.DOCKER_ARCHIVE if "manifest.json" in names else None

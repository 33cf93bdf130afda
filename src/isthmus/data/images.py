"""Images: which container engine can run which format, and what must be done with it at a site first."""

from isthmus.domain.artefacts import ImageFormat

ENGINES = ("apptainer", "singularity", "podman", "docker", "charliecloud")

_SIF = ("apptainer", "singularity")

RUNS: dict[ImageFormat, tuple[str, ...]] = {
    ImageFormat.SIF: _SIF,
    ImageFormat.SQUASHFS: (*_SIF, "charliecloud"),
    ImageFormat.OCI_ARCHIVE: ENGINES,
    ImageFormat.DOCKER_ARCHIVE: ENGINES,
    ImageFormat.FOLDER: ENGINES,
    ImageFormat.REFERENCE: ENGINES,
}

# References that only these engines pull.
_SCHEMES = {"library": _SIF, "oras": _SIF, "shub": _SIF}


def engines_for(format: ImageFormat | None, reference: str = "") -> tuple[str, ...]:
    """The engines that can run an image of this format, as it is or after a conversion at the site."""
    scheme = reference.partition("://")[0] if "://" in reference else ""
    return _SCHEMES.get(scheme) or RUNS[format or ImageFormat.REFERENCE]

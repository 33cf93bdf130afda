"""Container images on this machine: brought in once, and the words that run a command in one."""

import asyncio
import os
import subprocess
from typing import Any

from isthmus.runner import containers
from isthmus.workflows.work import Folders, Image, StepFailed, Work

ENGINES = ("podman", "docker", "apptainer", "singularity", "charliecloud")
PULL_S = 3600


class Images:
    """The images of one run. ``engine``: which to use; "" is the first that this machine has."""

    def __init__(self, engine: str = "") -> None:
        self._wanted = engine
        self._engine: str | None = None
        self._ready: dict[Image, asyncio.Task[str]] = {}

    @property
    def engine(self) -> str:
        """The engine that is used; "" if there is none."""
        if self._engine is None:
            names = (self._wanted,) if self._wanted else ENGINES
            self._engine = next((name for name in names if containers.binary(name)), "")
        return self._engine

    async def wrap(
        self, name: str, base: str, work: Work, folders: Folders, binds: list[list[str]]
    ) -> tuple[list[str], dict[str, str], list[str]]:
        """The words, the environment and the clean-up command of work in its container. Raises StepFailed."""
        image = work.image
        assert image is not None
        if not self.engine:
            raise StepFailed("It needs a container engine, and this machine has none (podman, docker, apptainer …).")
        if image not in self._ready:
            self._ready[image] = asyncio.ensure_future(asyncio.to_thread(self._bring, image))
        reference = await self._ready[image]
        own = work.work or folders.work
        options: list[str] = []
        if work.stdin and self.engine in ("podman", "docker"):
            options.append("--interactive")
        spec: dict[str, Any] = {
            "engine": self.engine,
            "image": reference,
            "binds": [*binds, [folders.work, own, "rw"], [folders.tmp, folders.tmp, "rw"]],
            "options": options,
            "gpu": work.need.gpus > 0,
        }
        if os.path.isdir(folders.inputs):
            spec["binds"].append([folders.inputs, folders.inputs, "rw"])
        cwd = own
        label = f"isthmus-step-{os.getpid()}-{name.replace('/', '-')}"
        place = containers.Place(base, cwd, label, [], network=work.network)
        env = {**os.environ, **work.env}
        try:
            wrapped = containers.wrap(spec, list(work.argv), env, list(work.env), place)
        except containers.ContainerError as error:
            raise StepFailed(str(error)) from None
        return list(wrapped.argv), dict(wrapped.env), list(wrapped.cleanup)

    def _bring(self, image: Image) -> str:
        """Have the image there; the name by which the engine knows it. Blocks."""
        program = containers.binary(self.engine)
        if self.engine in ("podman", "docker"):
            if image.dockerfile:
                tag = image.reference or f"isthmus-{abs(hash(image.dockerfile)):x}"
                self._say([program, "build", "-t", tag, "-"], image.dockerfile)
                return tag
            if image.load:
                told = self._say([program, "load", "-i", image.load])
                return image.reference or told.strip().rpartition(" ")[2]
            if image.imported:
                tag = image.reference or "isthmus-imported"
                self._say([program, "import", image.imported, tag])
                return tag
            if self._there([program, "image", "inspect", image.reference]):
                return image.reference
            self._say([program, "pull", image.reference])
            return image.reference
        if image.dockerfile or image.imported:
            raise StepFailed(f"{self.engine} can't build an image from a Dockerfile or a root file system.")
        if image.load:
            return f"docker-archive:{image.load}"
        return (
            image.reference
            if "://" in image.reference or image.reference.startswith("/")
            else (f"docker://{image.reference}")
        )

    def _there(self, words: list[str]) -> bool:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    def _say(self, words: list[str], text: str | None = None) -> str:
        try:
            done = subprocess.run(
                words,
                input=text,
                stdin=subprocess.DEVNULL if text is None else None,
                capture_output=True,
                text=True,
                timeout=PULL_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StepFailed(f"{' '.join(words[:2])}: {error}") from None
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise StepFailed(f"The image can't be had: {' '.join(words[1:3])}: {said[-1] if said else 'it failed'}")
        return done.stdout

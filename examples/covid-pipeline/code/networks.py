"""The networks: three encoders to choose from, and the one that finds where to look."""

import torch
from torch import nn

FEATURES = 64


class Residual(nn.Module):
    """Two convolutions beside a way past them (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(images + self.inner(images))


class Dense(nn.Module):
    """Each convolution sees what all before it made (Huang et al. 2017)."""

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels + number * growth, growth, 3, padding=1, bias=False),
                nn.BatchNorm2d(growth),
                nn.ReLU(),
            )
            for number in range(layers)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            images = torch.cat([images, layer(images)], dim=1)
        return images


def encoder(name: str) -> nn.Module:
    """A network from images (N, 1, 16, 16) to features (N, 64)."""
    if name == "plain":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 16, FEATURES), nn.ReLU(),
        )  # fmt: skip
    if name == "residual":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, stride=2), nn.ReLU(), Residual(16), Residual(16), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(16 * 16, FEATURES), nn.ReLU(),
        )  # fmt: skip
    if name == "dense":
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, stride=2), nn.ReLU(), Dense(16, 8, 3), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(40 * 16, FEATURES), nn.ReLU(),
        )  # fmt: skip
    raise SystemExit(f"There is no network {name!r}: plain, residual, dense.")


def classifier(name: str) -> nn.Sequential:
    """An encoder and a layer for the ten digits."""
    return nn.Sequential(encoder(name), nn.Linear(FEATURES, 10))


def restorer(name: str) -> nn.Sequential:
    """An encoder and a way back to the image."""
    return nn.Sequential(encoder(name), nn.Linear(FEATURES, 16 * 16), nn.Unflatten(1, (1, 16, 16)))


class Finder(nn.Module):
    """For each pixel whether it belongs to what matters: a U-Net of two levels (Ronneberger et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(
            nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.Upsample(scale_factor=2),
        )  # fmt: skip
        self.up = nn.Sequential(nn.Conv2d(48, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        level = self.down(images)
        return self.up(torch.cat([level, self.deep(level)], dim=1))


def begin(threads: int, seed: int) -> None:
    """The same numbers on each run, on as many cores as were given."""
    torch.set_num_threads(max(1, threads))
    torch.manual_seed(seed)

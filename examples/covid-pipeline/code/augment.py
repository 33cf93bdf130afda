"""Augmentation: more images of each, made from it. Each knows its original, so that no fold sees its own answers."""

import argparse

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--how", choices=("none", "shift", "noise"), required=True)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("images")
    parser.add_argument("out")
    given = parser.parse_args()
    data = dict(np.load(given.images))
    random = np.random.default_rng(13)
    images = data["images"]
    more, originals = [], []
    for _ in range(given.copies if given.how != "none" else 0):
        more.append(shifted(images, random) if given.how == "shift" else noisy(images, random))
        originals.append(np.arange(len(images)))
    empty = np.zeros((0, *images.shape[1:]), images.dtype)
    np.savez_compressed(
        given.out,
        **data,
        more=np.concatenate([empty, *more]),
        originals=np.concatenate([np.zeros(0, np.int64), *originals]),
        augmentation=given.how,
    )


def shifted(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    moves = random.integers(-2, 3, (len(images), 2))
    return np.stack([np.roll(image, tuple(move), axis=(0, 1)) for image, move in zip(images, moves, strict=True)])


def noisy(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    strength = random.uniform(0.8, 1.2, (len(images), 1, 1))
    return (images * strength + random.normal(0, 0.1, images.shape)).astype(images.dtype)


if __name__ == "__main__":
    main()

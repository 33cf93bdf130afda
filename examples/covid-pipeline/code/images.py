"""The images: handwritten digits (scikit-learn's, 1797 real scans of 8 by 8 pixels), each somewhere in a noisy field.

A field of 16 by 16 stands for a scan: what matters lies somewhere in it, among brightness that means nothing.
The first 300 are the atlas: their masks are known, and only they teach segmentation and pre-training.
"""

import argparse

import numpy as np
from sklearn.datasets import load_digits

SIZE, ATLAS = 16, 300


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the images, their masks, labels and folds.")
    parser.add_argument("--images", type=int, required=True, help="how many besides the atlas; 0 is all")
    parser.add_argument("--folds", type=int, required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("out")
    given = parser.parse_args()
    digits = load_digits()
    order = np.random.default_rng(given.seed).permutation(len(digits.target))
    if given.images:
        order = order[: ATLAS + given.images]
    strokes, labels = digits.images[order].astype(np.float32) / 16, digits.target[order]
    fields, masks = placed(strokes, np.random.default_rng(given.seed + 1))
    np.savez_compressed(
        given.out,
        atlas=fields[:ATLAS],
        atlas_masks=masks[:ATLAS],
        images=fields[ATLAS:],
        labels=labels[ATLAS:],
        folds=folds(labels[ATLAS:], given.folds),
    )
    print(f"{len(order) - ATLAS} images, {ATLAS} of the atlas, {given.folds} folds")


def placed(strokes: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each digit somewhere in a field with a slope of brightness, a bright bar and noise; and where its strokes are."""
    count = len(strokes)
    fields = random.normal(0.15, 0.12, (count, SIZE, SIZE)).astype(np.float32)
    masks = np.zeros((count, SIZE, SIZE), np.float32)
    slope = np.linspace(-0.2, 0.2, SIZE, dtype=np.float32)
    for number, stroke in enumerate(strokes):
        top, left = random.integers(0, SIZE - 8, 2)
        fields[number] += slope[:, None] * random.choice((-1, 1)) + slope[None, :] * random.choice((-1, 1))
        fields[number, :, random.integers(0, SIZE)] += 0.7
        fields[number, top : top + 8, left : left + 8] += stroke
        masks[number, top : top + 8, left : left + 8] = stroke > 0.25
    return np.clip(fields, 0, 1.5), masks


def folds(labels: np.ndarray, count: int) -> np.ndarray:
    """The fold of each image: each label is spread evenly over them."""
    found = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        found[mine] = np.arange(len(mine)) % count
    return found


if __name__ == "__main__":
    main()

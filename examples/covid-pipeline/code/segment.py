"""Segmentation: find where the digit is, and show that alone, in the middle. `none` leaves the images as they are."""

import argparse

import numpy as np
import torch
from networks import Finder, begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--how", choices=("none", "learned"), required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("images")
    parser.add_argument("out")
    given = parser.parse_args()
    data = dict(np.load(given.images))
    if given.how == "learned":
        begin(given.threads, 11)
        finder = taught(data["atlas"], data["atlas_masks"], given.epochs)
        for name in ("atlas", "images"):
            data[name] = seen(data[name], finder)
    np.savez_compressed(given.out, **data, segmentation=given.how)


def taught(images: np.ndarray, masks: np.ndarray, epochs: int) -> Finder:
    finder = Finder()
    optimizer = torch.optim.Adam(finder.parameters(), lr=3e-3)
    given, wanted = torch.from_numpy(images)[:, None], torch.from_numpy(masks)[:, None]
    for _ in range(epochs):
        for part in torch.randperm(len(given)).split(50):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(finder(given[part]), wanted[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        found = (finder(given) > 0).float()
    dice = 2 * (found * wanted).sum() / (found.sum() + wanted.sum())
    print(f"Dice coefficient on the atlas: {dice:.3f}")
    return finder.eval()


def seen(images: np.ndarray, finder: Finder) -> np.ndarray:
    """What the finder takes for the digit, moved to the middle of an empty field."""
    with torch.no_grad():
        chances = torch.sigmoid(finder(torch.from_numpy(images)[:, None]))[:, 0].numpy()
    found = np.zeros_like(images)
    for number, (image, chance) in enumerate(zip(images, chances, strict=True)):
        weight = chance * (chance > 0.3)
        if weight.sum() == 0:
            found[number] = image
            continue
        rows, columns = np.indices(image.shape)
        middle = [round(float((axis * weight).sum() / weight.sum())) for axis in (rows, columns)]
        found[number] = np.roll(image * chance, (8 - middle[0], 8 - middle[1]), axis=(0, 1))
    return found


if __name__ == "__main__":
    main()

"""Classification: train on all folds but one, and say what the network makes of that one."""

import argparse
import json
import time

import numpy as np
import torch
from networks import begin, classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", required=True, help="the network and its first weights")
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("images")
    parser.add_argument("out")
    given = parser.parse_args()
    began = time.monotonic()
    begin(given.threads, 19 + given.fold)
    data = np.load(given.images)
    start = torch.load(given.start, weights_only=True)
    network = classifier(start["network"])
    network[0].load_state_dict(start["encoder"])
    held = data["folds"] == given.fold
    others = ~held[data["originals"]]
    images = np.concatenate([data["images"][~held], data["more"][others]])
    labels = np.concatenate([data["labels"][~held], data["labels"][data["originals"][others]]])
    teach(network, torch.from_numpy(images)[:, None], torch.from_numpy(labels), given.epochs)
    with torch.no_grad():
        chances = torch.softmax(network.eval()(torch.from_numpy(data["images"][held])[:, None]), dim=1)
    found = {
        "variant": {
            "segmentation": str(data["segmentation"]),
            "augmentation": str(data["augmentation"]),
            "pretraining": start["pretraining"],
            "network": start["network"],
        },
        "fold": given.fold,
        "trained_on": len(images),
        "seconds": time.monotonic() - began,
        "labels": data["labels"][held].tolist(),
        "chances": [[round(each, 5) for each in row] for row in chances.tolist()],
    }
    with open(given.out, "w") as stream:
        json.dump(found, stream)


def teach(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    network.train()
    for epoch in range(epochs):
        for part in torch.randperm(len(images)).split(32):
            loss = torch.nn.functional.cross_entropy(network(images[part]), labels[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()

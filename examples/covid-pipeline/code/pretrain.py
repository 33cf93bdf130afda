"""Pre-training: a network learns to restore noisy images of the atlas, without labels. `none` begins at random."""

import argparse

import numpy as np
import torch
from networks import begin, restorer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", required=True)
    parser.add_argument("--how", choices=("none", "restoring"), required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("images")
    parser.add_argument("out")
    given = parser.parse_args()
    begin(given.threads, 17)
    network = restorer(given.network)
    if given.how == "restoring":
        teach(network, torch.from_numpy(np.load(given.images)["atlas"])[:, None], given.epochs)
    start = {"network": given.network, "pretraining": given.how, "encoder": network[0].state_dict()}
    torch.save(start, given.out)


def teach(network: torch.nn.Module, images: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(50):
            noisy = images[part] + 0.2 * torch.randn_like(images[part])
            loss = torch.nn.functional.mse_loss(network(noisy), images[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"restored with a mean squared error of {loss.item():.4f}")


if __name__ == "__main__":
    main()

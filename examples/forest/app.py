"""A random forest on real data: trees are trained side by side, and vote; a tree at a time is compared with the forest.

    python -m examples.forest.app [--trees 40] [--depth 12]
    ISTHMUS_TASKS=sequential python -m examples.forest.app      the same, one after another

The data is the handwritten digits of UCI that scikit-learn carries (1,797 images of 8 x 8 pixels, ten classes). Each
tree is a task that draws its own sample and features; votes are added in any order (COMMUTATIVE); the accuracy on
held-out images, and how often each digit is taken for which, come at the end.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

from isthmus.tasks import COMMUTATIVE, task, wait_on
from isthmus.tasks.constraints import constraint


@constraint(computing_units=1)
@task(returns=1)
def grow(images: np.ndarray, digits: np.ndarray, depth: int, seed: int) -> DecisionTreeClassifier:
    """A tree on a bootstrap sample, each split among a random part of the pixels."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(images), len(images))
    tree = DecisionTreeClassifier(max_depth=depth, max_features="sqrt", random_state=seed)
    return tree.fit(images[drawn], digits[drawn])


@task(votes=COMMUTATIVE)
def vote(tree: DecisionTreeClassifier, images: np.ndarray, votes: np.ndarray) -> None:
    """Add the tree's votes: one row an image, one column a digit."""
    votes[np.arange(len(images)), tree.predict(images)] += 1


@task(returns=1)
def accuracy(tree: DecisionTreeClassifier, images: np.ndarray, digits: np.ndarray) -> float:
    """How often one tree is right."""
    return float(tree.score(images, digits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=40)
    parser.add_argument("--depth", type=int, default=12)
    words = parser.parse_args()
    images, digits = load_digits(return_X_y=True)
    known, unseen, right, truth = train_test_split(images, digits, test_size=0.25, random_state=0, stratify=digits)
    begin = time.perf_counter()
    votes = np.zeros((len(unseen), 10), dtype=np.int64)
    alone = []
    for seed in range(words.trees):
        tree = grow(known, right, words.depth, seed)
        vote(tree, unseen, votes)
        alone.append(accuracy(tree, unseen, truth))
    votes, alone = wait_on(votes, alone)
    said = votes.argmax(axis=1)
    print(f"{words.trees} trees in {time.perf_counter() - begin:.2f} s")
    print(f"one tree alone: {np.mean(alone):.3f} right (from {min(alone):.3f} to {max(alone):.3f})")
    print(f"the forest:     {(said == truth).mean():.3f} right of {len(truth)} images that it had not seen")
    wrong = [(int(a), int(b)) for a, b in zip(truth, said, strict=True) if a != b]
    for pair in sorted(set(wrong), key=wrong.count, reverse=True)[:3]:
        print(f"a {pair[0]} taken for a {pair[1]}: {wrong.count(pair)} times")


if __name__ == "__main__":
    main()

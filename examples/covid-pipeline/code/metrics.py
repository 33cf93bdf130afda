"""Metrics of one variant, from what its folds found: accuracy, F1 and area under the ROC curve, with their spread."""

import argparse
import json

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("folds", nargs="+")
    given = parser.parse_args()
    folds = []
    for path in given.folds:
        with open(path) as stream:
            folds.append(json.load(stream))
    variants = {json.dumps(fold["variant"], sort_keys=True) for fold in folds}
    if len(variants) > 1:
        raise SystemExit(f"These folds are of {len(variants)} variants.")
    scores = [score(np.array(fold["labels"]), np.array(fold["chances"])) for fold in folds]
    found = {
        **folds[0]["variant"],
        "folds": len(folds),
        **{name: float(np.mean([each[name] for each in scores])) for name in scores[0]},
        **{f"{name}_sd": float(np.std([each[name] for each in scores])) for name in scores[0]},
        "train_s": sum(fold["seconds"] for fold in folds),
    }
    with open(given.out, "w") as stream:
        json.dump(found, stream, indent=1)


def score(labels: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    answers = chances.argmax(axis=1)
    chances = chances / chances.sum(axis=1, keepdims=True)  # they were rounded
    return {
        "accuracy": accuracy_score(labels, answers),
        "f1": f1_score(labels, answers, average="macro"),
        "auc": roc_auc_score(labels, chances, multi_class="ovr", labels=range(10)),
    }


if __name__ == "__main__":
    main()

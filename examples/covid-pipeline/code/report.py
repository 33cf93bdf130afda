"""The report: every variant with its metrics, the best first, as a page and as a table for other programs."""

import argparse
import csv
import html
import json

CHOICES = ("segmentation", "augmentation", "pretraining", "network")
SCORES = ("accuracy", "f1", "auc")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Variants</title>
<style>
 body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
 table {{ border-collapse: collapse; width: 100% }} th {{ text-align: left; border-bottom: 2px solid #444 }}
 td {{ border-bottom: 1px solid #ddd }} td, th {{ padding: .3rem .6rem }} .n {{ text-align: right }}
 meter {{ width: 8rem }}
</style>
<h1>{count} variants, {trainings} trainings</h1>
<p>Means over the folds, and their standard deviation. The best: {best}.</p>
<table><tr>{heads}</tr>
{rows}
</table>
<h2>What each choice brings</h2>
<p>The mean accuracy of all variants that made it.</p>
<table><tr><th>Choice<th>Taken<th class="n">Accuracy<th></tr>
{choices}
</table></html>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("metrics", nargs="+")
    given = parser.parse_args()
    variants = []
    for path in given.metrics:
        with open(path) as stream:
            variants.append(json.load(stream))
    variants.sort(key=lambda each: -each["accuracy"])
    with open(given.table, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(variants[0]))
        writer.writeheader()
        writer.writerows(variants)
    with open(given.page, "w", encoding="utf-8") as stream:
        stream.write(page(variants))


def page(variants: list[dict]) -> str:
    heads = "".join(f"<th>{name.capitalize()}" for name in CHOICES)
    heads += "".join(f'<th class="n">{name.upper() if len(name) < 4 else name.capitalize()}' for name in SCORES)
    rows = []
    for each in variants:
        cells = "".join(f"<td>{html.escape(each[name])}" for name in CHOICES)
        cells += "".join(f'<td class="n">{each[name]:.3f} ± {each[f"{name}_sd"]:.3f}' for name in SCORES)
        rows.append(f'<tr>{cells}<td><meter value="{each["accuracy"]:.4f}"></meter></tr>')
    choices = []
    for name in CHOICES:
        for taken in dict.fromkeys(each[name] for each in variants):
            scores = [each["accuracy"] for each in variants if each[name] == taken]
            mean = sum(scores) / len(scores)
            choices.append(
                f'<tr><td>{name.capitalize()}<td>{html.escape(taken)}<td class="n">{mean:.3f}'
                f'<td><meter value="{mean:.4f}"></meter></tr>'
            )
    return PAGE.format(
        count=len(variants),
        trainings=sum(each["folds"] for each in variants),
        best=html.escape(", ".join(variants[0][name] for name in CHOICES)),
        heads=heads + "<th>",
        rows="\n".join(rows),
        choices="\n".join(choices),
    )


if __name__ == "__main__":
    main()

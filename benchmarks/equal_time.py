"""Accuracy after equal time: each contender pretrains for 120 s, then the same linear probe is fitted.

    python -m benchmarks.equal_time [SECONDS]

Run `benchmarks.throughput` first: every contender runs with its fastest setting from there. A contender
measures its own rate, and its cosine schedule is as long as the steps that fit into the time. Imports and the
first step do not count. Writes `benchmarks/results/equal_time.csv`: accuracy on MNIST's test images with 10
and 100 labels over 5 draws, and the paired gain of Headstart. Nothing is chosen with these accuracies. The
views and temperatures of the peers were fixed in advance and not tuned; those of Headstart were tuned on
validation. To tune a peer too, measure it on validation:

    python -m benchmarks.equal_time --validation CONTENDER [SECONDS]
"""

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.contender import NAMES
from benchmarks.drive import Contender, log, running
from benchmarks.throughput import RESULT as THROUGHPUT
from stages.compare.statistics import estimate, paired_gain
from stages.errors import reported
from stages.files.json_files import read_json
from stages.files.tables import write_table

RESULT = Path("benchmarks/results/equal_time.csv")
SECONDS = 120.0
BUDGETS = (10, 100)
MARGIN = 0.98  # of the measured rate, so that the schedule ends just before the time does
CONTENDERS = tuple(name for name in NAMES if name != "compute_limit")


def main(seconds: float) -> None:
    """Pretrain each contender for `seconds`, probe, and write the table."""
    best = {name: row["setting"] for name, row in read_json(THROUGHPUT)["contenders"].items()}
    answers = {}
    for name in CONTENDERS:
        with running(name) as (contender,):
            answers[name] = pretrained(contender, best[name], seconds, "test")
    table = rows(answers)
    write_table(RESULT, table)
    print(table.to_string(index=False))


def pretrained(contender: Contender, setting: dict[str, Any], seconds: float, split: str) -> dict[str, Any]:
    """Pretrain a contender for `seconds` with a schedule of that length; returns its answer."""
    rate = contender.ask(
        setting=setting, steps=100
    )  # with fewer, the batches that the workers have prefetched would count
    steps = max(2, int(MARGIN * seconds * rate["steps"] / rate["seconds"]))
    answer = contender.ask(
        setting=setting, steps=steps, warmup=1, seconds=seconds, budgets=BUDGETS, split=split
    )
    means = {n: f"{sum(of) / len(of):.1%}" for n, of in answer["accuracies"].items()}
    log(f"{contender.name}: {answer['images']:,} images in {answer['seconds']:.0f} s, {split} {means}")
    return answer | {"planned": steps}


def rows(answers: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One row per contender and number of labels, with the paired gain of Headstart over the contender.

    Args:
        answers: by contender; `accuracies` has a list over the draws for each number of labels.
    """
    table = []
    for name, answer in answers.items():
        for budget, accuracies in answer["accuracies"].items():
            value = estimate(accuracies)
            row: dict[str, Any] = {
                "contender": name,
                "seconds": round(answer["seconds"], 1),
                "images_seen": answer["images"],
                "schedule_done": round(answer["steps"] / answer["planned"], 3),
                "labels": int(budget),
                "draws": len(accuracies),
                "accuracy": round(value.mean, 4),
                "ci95": round(value.ci95, 4),
            }
            if name != "headstart":
                gain = paired_gain(answers["headstart"]["accuracies"][budget], accuracies)
                row |= {"gain_of_headstart": round(gain.mean, 4), "gain_ci95": round(gain.ci95, 4)}
            table.append(row)
    return pd.DataFrame(table)


def validate(name: str, seconds: float) -> None:
    """Print the accuracies of one contender on validation, with other draws than the reported ones."""
    with running(name) as (contender,):
        setting = next(s for s in contender.settings if s["precision"] != "fp32" and s["workers"] == 0)
        pretrained(contender, setting, seconds, "validation")


if __name__ == "__main__":
    with reported():
        arguments = sys.argv[1:]
        if arguments[:1] == ["--validation"]:
            validate(arguments[1], float(arguments[2]) if arguments[2:] else SECONDS)
        else:
            main(float(arguments[0]) if arguments else SECONDS)

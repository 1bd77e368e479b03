"""Images per second of Headstart and its peers, and the utilisation of the processor.

    python -m benchmarks.throughput [--quick]

Needs the outputs of the stage `prepare` and the environment of requirements-peers.lock (`make bench` makes
both). First each peer tries its settings. Then all contenders take turns, each with its fastest setting:
A B C A B C … A ratio is the median over the rounds of the ratio within a round, so that it does not depend on
a change in the machine's speed. Writes `benchmarks/results/throughput.json` and from it `throughput.md`.
"""

import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import hardware
from benchmarks.contender import NAMES
from benchmarks.contenders import headstart
from benchmarks.contenders.common import Recipe
from benchmarks.drive import Contender, log, running
from stages.errors import reported
from stages.files.json_files import write_json
from stages.files.whole import whole_file
from stages.networks.build import build
from stages.networks.encoder import Declaration
from stages.settings import load
from stages.training.machine import set_up
from stages.training.randomness import Stream

RESULT = Path("benchmarks/results/throughput.json")
TABLE = RESULT.with_suffix(".md")
# NOTE: a worker has up to two batches ready before the clock starts, so short trials would favour workers.
ROUNDS, STEPS, TRIAL_STEPS = 5, 50, 40
PEERS = ("lightly", "stable_pretraining", "lightly_train")


def main(quick: bool) -> None:
    """Measure and write; quick: two steps at a time, to check that it works."""
    rounds, steps, trial_steps = (2, 2, 1) if quick else (ROUNDS, STEPS, TRIAL_STEPS)
    settings = load.validated(load.read(load.PARAMS))
    machine = set_up(settings.runtime, settings.runtime.threads.pretrain)
    log("matrix products")
    peak = hardware.gemm_peak(machine.device, (512,) if quick else hardware.SIZES)
    flops = flops_of_a_step(Recipe.of(settings))
    results: dict[str, Any] = {}
    with running(*NAMES) as contenders:
        for contender in contenders:
            results[contender.name] = fastest_setting(contender, trial_steps)
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
        for number in range(rounds):
            for contender in contenders:
                answer = contender.ask(setting=results[contender.name]["setting"], steps=steps)
                measured[contender.name].append(answer)
                rate = answer["images_per_second"]
                log(f"round {number + 1}: {contender.name} {rate:,.0f} images/s")
    result = summary(measured, flops, peak[machine.precision])
    for name, contender_result in results.items():
        result["contenders"][name] |= contender_result
    result["gemm_peak_gflops"] = {name: round(value / 1e9, 1) for name, value in peak.items()}
    section = settings.pretrain["simclr"]
    result |= {
        "machine": hardware.machine_description(),
        "precision": machine.precision,
        "batch_size": section.batch_size,
        "steps": steps,
        "rounds": rounds,
        "encoder": settings.encoder.model_dump(include={"name", "width"}) | {"channels": 1, "image_size": 28},
        "projector": [section.projector_hidden, section.projector_hidden, section.projector_output],
    }
    write_json(RESULT, result)
    with whole_file(TABLE) as temporary:
        temporary.write_text(table(result), encoding="utf-8")
    print(table(result))


def fastest_setting(contender: Contender, steps: int) -> dict[str, Any]:
    """Find the fastest setting of a contender.

    The precision is chosen first, with the most workers; then the number of workers.

    Returns:
        `setting`: the fastest; `trial`: all settings that were tried, with their images/s.
    """
    tried: dict[int, float] = {}

    def rate(index: int) -> float:
        if index not in tried and len(contender.settings) > 1:
            setting = contender.settings[index]
            tried[index] = contender.ask(setting=setting, steps=steps)["images_per_second"]
            log(f"trial: {contender.name} {setting} {tried[index]:,.0f} images/s")
        return tried.get(index, 0.0)

    most = max(setting["workers"] for setting in contender.settings)
    candidates = [i for i, setting in enumerate(contender.settings) if setting["workers"] == most]
    views = {contender.settings[i]["views"] for i in candidates}
    for view in sorted(views):
        best = max((i for i in candidates if contender.settings[i]["views"] == view), key=rate)
        same_but_workers = {**contender.settings[best], "workers": None}
        for index, setting in enumerate(contender.settings):
            if {**setting, "workers": None} == same_but_workers:
                rate(index)
    best = max(tried, key=tried.__getitem__, default=0)
    trial = [contender.settings[i] | {"images_per_second": round(tried[i])} for i in sorted(tried)]
    return {"setting": contender.settings[best], "trial": trial}


def flops_of_a_step(recipe: Recipe) -> int:
    """FLOPs of a training step: encoder, projector and loss on two views of a batch."""
    declaration = Declaration(
        **recipe.settings.encoder.model_dump(include={"name", "width"}), channels=1, image_size=28
    )
    encoder = build(declaration, Stream.of(0, "flops").generator())
    machine = set_up(recipe.runtime("fp32"), recipe.settings.runtime.threads.pretrain)
    learner = headstart.build(encoder.to(machine.device), recipe, machine)
    both = torch.zeros(2 * recipe.batch_size, 1, 28, 28, device=machine.device)
    return hardware.step_flops(lambda: headstart.loss_of(learner, both))


def ratio(headstart: list[float], other: list[float]) -> float:
    """The median over the rounds of the ratio of two rates within each round."""
    return round(median(a / b for a, b in zip(headstart, other, strict=True)), 3)


def summary(measured: dict[str, list[dict[str, Any]]], flops: int, peak: float) -> dict[str, Any]:
    """The ratios between Headstart and the others, and the medians of each contender.

    Args:
        measured: the answers of each contender, by round.
        flops: FLOPs of one step.
        peak: FLOP/s of a matrix product in the precision that Headstart uses.
    """
    rates = {name: [answer["images_per_second"] for answer in of] for name, of in measured.items()}
    ours = rates["headstart"]
    result: dict[str, Any] = {f"ratio_to_{name}": ratio(ours, rates[name]) for name in PEERS if name in rates}
    result["share_of_compute_limit"] = ratio(ours, rates["compute_limit"])
    contenders = {}
    for name, answers in measured.items():
        images = answers[0]["images"] / answers[0]["steps"]
        contenders[name] = {
            "images_per_second": round(median(rates[name])),
            "images_per_second_by_round": [round(value) for value in rates[name]],
            "peak_memory_mb": max(answer["peak_memory_mb"] for answer in answers),
            "utilisation": round(flops * median(rates[name]) / images / peak, 4),
        }
    return result | {"contenders": contenders, "flops_per_step": flops}


def table(result: dict[str, Any]) -> str:
    """The result as a Markdown table."""
    m, gemm = result["machine"], result["gemm_peak_gflops"]
    lines = [
        "| contender | images/s | ratio | memory, MB | of GEMM peak | workers | format | views by |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for name in NAMES:
        row = result["contenders"][name]
        key = "share_of_compute_limit" if name == "compute_limit" else f"ratio_to_{name}"
        setting = row["setting"]
        precision = result["precision"] if setting["precision"] == "auto" else setting["precision"]
        cells = (
            name, f"{row['images_per_second']:,}", f"{result[key]:.2f}" if key in result else "",
            f"{row['peak_memory_mb']:,}", f"{row['utilisation']:.1%}", setting["workers"], precision,
            "" if name == "compute_limit" else setting["views"],
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + (
        f"\n\nMedians of {result['rounds']} alternating rounds of {result['steps']} steps, "
        f"batch {result['batch_size']}; ratio: ours to theirs. Memory: anonymous and shared, workers "
        "included, without the page cache.\n\n"
        f"{m['processor']} ({', '.join(m['flags'])}), {m['cores']} cores, {m['threads']} threads, "
        f"{m['memory_gb']} GB; torch {m['torch']}, Python {m['python']}; {m['date']}. "
        f"GEMM: bf16 {gemm['bf16']:,.0f} GFLOP/s, fp32 {gemm['fp32']:,.0f}; a step has "
        f"{result['flops_per_step'] / 1e9:.2f} GFLOP.\n"
    )


if __name__ == "__main__":
    with reported():
        main(quick="--quick" in sys.argv[1:])

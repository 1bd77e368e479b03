"""The committed tables of docs/ have the committed figures of benchmarks/results."""

import io
import re
from typing import Any

import pandas as pd
import pytest

from benchmarks.situations import all_settings, grid
from tests.conftest import committed

SIMPLE = ("hog_forest", "hog_svm", "pixels_1nn")


def figures(page: str, heading: str, columns: slice = slice(1, None)) -> list[list[str]]:
    """The numbers, as written, in the rows of the table whose first line begins with `heading`.

    columns: which columns are read.
    """
    table = committed(f"docs/{page}").partition(f"\n{heading}")[2].partition("\n\n")[0]
    assert table, f"{page} has no table {heading}"
    rows = [line.strip("|").split("|")[columns] for line in table.splitlines()[2:]]
    return [re.findall(r"[+-]?[\d.,]*\d", " ".join(row)) for row in rows]


def percent(value: float, digits: int = 1, sign: str = "") -> str:
    return f"{100 * value:{sign}.{digits}f}"


def results(name: str, **options: Any) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(committed(f"benchmarks/results/{name}")), **options)


def test_the_results_are_those_of_the_experiments() -> None:
    keys = ["dataset", "labels", "protocol", "method"]
    accuracies, gains = (
        results(name, dtype={"labels": str}).set_index(keys) for name in ("quality.csv", "quality_gains.csv")
    )
    expected = []
    for name in ("mnist", "mnist-large", "fashion-mnist", "fashion-mnist-large"):
        for labels in ("10", "100", "1000", "all"):
            if (name, labels, "finetuned", "scratch") not in accuracies.index:
                continue
            cells = [
                accuracies.loc[(name, labels, "finetuned", "scratch")],
                accuracies.loc[(name, labels, "finetuned", "simclr")],
                accuracies.loc[(name, labels, "linear", "simclr")],
            ]
            scratch, finetuned, linear = ([percent(v, 2) for v in row[["accuracy", "ci95"]]] for row in cells)
            gain, ci95 = gains.loc[(name, labels, "finetuned", "simclr"), ["gain", "ci95"]]
            expected.append(
                [
                    *scratch,
                    *finetuned,
                    percent(gain, 2, "+"),
                    percent(ci95, 2),
                    *linear[: 1 + (labels != "all")],
                ]
            )
    assert figures("benchmarks.md", "| experiment | labels |", slice(2, None)) == expected


def test_the_results_on_colour_images_are_those_of_the_experiments() -> None:
    keys = ["dataset", "labels", "protocol", "method"]
    of_accuracy, of_recall, gains = (
        results(f"quality{name}.csv", dtype={"labels": str}) for name in ("", "_recall", "_gains")
    )
    of_accuracy, of_recall = (table.set_index(keys).sort_index() for table in (of_accuracy, of_recall))
    of_accuracy["gain"] = gains[gains["over"] == "scratch"].set_index(keys)["gain"]
    of_accuracy["gain_ci95"] = gains[gains["over"] == "scratch"].set_index(keys)["ci95"]
    by_hand = (("emoji", "90"), ("satellite", "50"))
    by_init = (("satellite, by init", "50"),)
    on_a_gpu = (("clip-art-128, by init", "80"),)
    for page, heading, datasets, table, score in (
        ("benchmarks", "| folder | labels | scratch", by_hand, of_accuracy, "accuracy"),
        ("benchmarks", "| by macro recall |", by_hand, of_recall, "recall_macro"),
        ("benchmarks", "| by the README's lines |", by_init, of_accuracy, "accuracy"),
        ("gpu-and-scale", "| labels | scratch | SimCLR, finetuned", on_a_gpu, of_accuracy, "accuracy"),
    ):
        first = slice(1 if page == "gpu-and-scale" else 2, None)
        expected = []
        for name, few in datasets:
            for labels in (few, "300", "all"):
                rows = {key: table.loc[(name, labels, *key)] for key in table.loc[(name, labels)].index}
                simple = [rows["baseline", of] for of in SIMPLE]
                cells = [
                    rows["finetuned", "scratch"], rows["finetuned", "simclr"], rows["linear", "simclr"],
                    max(simple, key=lambda row: row[score]), rows["baseline", "imagenet"],
                ]  # fmt: skip
                shown = [[percent(row[score]), percent(row["ci95"])] for row in cells]
                gain = rows["finetuned", "simclr"]
                shown.insert(2, [percent(gain["gain"], sign="+"), percent(gain["gain_ci95"])])
                expected.append([text for cell in shown for text in cell])
        assert figures(f"{page}.md", heading, first) == expected


def test_the_results_with_chosen_recipes_are_those_of_the_experiments() -> None:
    keys = ["dataset", "labels", "protocol", "method"]
    accuracies, gains = (
        results(name, dtype={"labels": str}).set_index(keys) for name in ("quality.csv", "quality_gains.csv")
    )
    gains = gains[gains["over"] == "scratch"]
    accuracies = accuracies.sort_index()
    expected = []
    for name in ("mnist-automatic", "fashion-mnist-automatic"):
        for labels in ("10", "100", "1000"):
            of = accuracies.loc[(name, labels)]
            best = max(SIMPLE, key=lambda baseline: float(of.loc[("baseline", baseline), "accuracy"]))
            rows = (
                ("finetuned", "scratch"),
                ("finetuned", "simclr"),
                ("linear", "simclr"),
                ("baseline", best),
            )
            shown = [[percent(of.loc[row, score]) for score in ("accuracy", "ci95")] for row in rows]
            gain = gains.loc[(name, labels, "finetuned", "simclr")]
            shown.insert(2, [percent(gain["gain"], sign="+"), percent(gain["ci95"])])
            expected.append([text for cell in shown for text in cell])
    heading = "| experiment | labels | scratch | SimCLR, finetuned"
    assert figures("benchmarks.md", heading, slice(2, None)) == expected


def test_the_results_from_public_weights_are_the_measured_ones() -> None:
    keys = ["labels", "protocol", "method"]
    of_accuracy, of_recall, gains = (
        results(f"quality{name}.csv", dtype={"labels": str}) for name in ("", "_recall", "_gains")
    )
    tables = [table[table["dataset"] == "emoji-imagenet"] for table in (of_accuracy, of_recall, gains)]
    accuracy, recall = (table.set_index(keys).sort_index() for table in tables[:2])
    over = tables[2].set_index([*keys, "over"]).sort_index()
    expected = []
    for labels in ("90", "300"):
        for method, controls in (
            ("scratch", ()),
            ("imported", ("scratch",)),
            ("simclr", ("scratch", "imported")),
        ):
            of = (labels, "finetuned", method)
            cells = [accuracy.loc[of, ["accuracy", "ci95"]].map(percent)]
            for control in controls:
                gain = over.loc[(*of, control)]
                cells.append([percent(gain["gain"], sign="+"), percent(gain["ci95"])])
            cells.append(recall.loc[of, ["recall_macro", "ci95"]].map(percent))
            probe = (labels, "linear", method)
            cells.append(accuracy.loc[probe, ["accuracy", "ci95"]].map(percent))
            cells.append(recall.loc[probe, ["recall_macro", "ci95"]].map(percent))
            expected.append([text for cell in cells for text in cell])
    assert figures("benchmarks.md", "| start | labels |", slice(2, None)) == expected


SEEN = [("", "0")] + [(f"pretrain.simclr.images={images}", "0") for images in (220_000, 660_000)]
AGAIN = ("pretrain.simclr.images=220000", "1")


@pytest.mark.parametrize(
    ("heading", "folders"),
    [
        ("| folder | images seen |", {"emoji": SEEN, "satellite": [*SEEN[:2], AGAIN, SEEN[2]]}),
        ("| 600 emoji |", {"emoji-600": SEEN}),
    ],
)
def test_the_gains_of_length_are_the_measured_ones(
    heading: str, folders: dict[str, list[tuple[str, str]]]
) -> None:
    table = results("pretraining.csv", keep_default_na=False, dtype=str).set_index(["data", "changes", "run"])
    expected = []
    for folder, settings in folders.items():
        for setting in settings:
            rows = table.loc[(folder, *setting)].set_index("labels")["value"].astype(float)
            budgets = ("50" if folder == "satellite" else "90", "300", "all", "cross-validated")
            expected.append([percent(rows[labels]) for labels in budgets])
    assert figures("benchmarks.md", heading, slice(3, None)) == expected


def test_the_gains_on_clip_art_are_the_measured_ones() -> None:
    keys = ["dataset", "labels", "protocol", "method", "over"]
    gains = results("quality_gains.csv", dtype={"labels": str}).set_index(keys)
    page = " ".join(committed("docs/benchmarks.md").split())
    for name in ("clip-art, by init", "clip-art-128, by init"):
        rows = [
            gains.loc[(name, labels, "finetuned", "simclr", "scratch")] for labels in ("80", "300", "all")
        ]
        of_80, of_300, of_all = (f"{percent(row.gain, sign='+')} ± {percent(row.ci95)}" for row in rows)
        assert f"{of_80}, {of_300} and {of_all}" in page


def test_the_aims_are_judged_by_the_measured_figures() -> None:
    page = committed("docs/benchmarks.md").partition("| aim | reached |")[2].partition("\n\n")[0]
    rows = dict(line.strip("| ").split(" | ") for line in page.splitlines()[2:])
    throughput = committed("benchmarks/results/throughput.md")
    speeds = [line.split("|") for line in throughput.splitlines() if "|" in line]
    ratios = {cells[1].strip(): cells[3].strip() for cells in speeds}
    keys = ["dataset", "labels", "protocol", "method"]
    quality = results("quality.csv", dtype={"labels": str}).set_index(keys)
    seconds = results("quality_timings.csv").set_index(["dataset", "method"])["pretrain_seconds"]

    def figure(*key: str) -> str:
        accuracy, ci95 = quality.loc[key, ["accuracy", "ci95"]]
        return f"{percent(accuracy, 2)} ± {percent(ci95, 2)}"

    assert rows["4 × the images/s of `lightly` and of `stable-pretraining`"].startswith(
        f"{ratios['lightly']} × and {ratios['stable_pretraining']} ×"
    )
    speed = f"{ratios['compute_limit']} of the images/s of the same step on constant views"
    assert rows["random views cost at most 10 % of the speed"] == speed
    assert rows["MNIST, 10 labels, linear probe: 93 %"] == figure("mnist", "10", "linear", "simclr")
    few = rows["MNIST, 100 labels, finetuned: 98.5 %, 1.5 points over scratch"]
    assert few.startswith(figure("mnist", "100", "finetuned", "simclr"))
    every = rows["MNIST, all labels: 99.5 %"]
    assert every.startswith(figure("mnist", "all", "finetuned", "simclr"))
    assert f"scratch {figure('mnist', 'all', 'finetuned', 'scratch')}" in every
    fashion = rows["Fashion-MNIST, 100, 1,000 and all labels: 78, 88 and 94 %"]
    for labels in ("100", "1000", "all"):
        assert figure("fashion-mnist", labels, "finetuned", "simclr") in fashion
    times = rows["pretraining in at most 300 s on 2 cores"]
    for name in ("mnist", "fashion-mnist"):
        assert f"{seconds[(name, 'simclr')]:.0f} s" in times


def test_equal_time_is_as_measured() -> None:
    table = results("equal_time.csv")
    expected = []
    for _, rows in table.groupby("contender", sort=False):
        row = [f"{rows['images_seen'].iloc[0]:,}"]
        for _, one in rows.iterrows():
            row += [percent(one["accuracy"]), percent(one["ci95"])]
        for _, one in rows.dropna().iterrows():
            row += [percent(one["gain_of_headstart"], sign="+"), percent(one["gain_ci95"])]
        expected.append(row)
    assert figures("benchmarks.md", "| library | images seen |") == expected


def test_suggestions_are_as_measured() -> None:
    table = results("suggestions.csv").set_index(["dataset", "labels", "strategy"])
    expected = []
    for dataset in ("mnist", "fashion-mnist"):
        for labels in (10, 20, 50):
            row = []
            for strategy in ("random", "typical", "centre"):
                accuracy, ci95 = table.loc[(dataset, labels, strategy), ["accuracy", "ci95"]]
                row += [percent(accuracy), percent(ci95)][: 1 + (strategy != "centre")]
            expected.append(row)
    assert figures("benchmarks.md", "| dataset | labels |", slice(2, None)) == expected


def test_transfer_is_as_measured() -> None:
    rows = results("transfer.csv").set_index(["dataset", "method", "labels"])
    finetuned, linear = (rows[rows["protocol"] == name] for name in ("finetuned", "linear"))
    expected = [
        [
            percent(figure)
            for labels in (10, 100, 1000)
            for figure in (
                *finetuned.loc[(dataset, method, labels), ["accuracy", "ci95"]],
                linear.loc[(dataset, method, labels), "accuracy"],
            )
        ]
        for dataset in ("mnist", "fashion-mnist")
        for method in ("scratch", "imported", "imported, then 1 epoch", "simclr")
    ]
    assert figures("benchmarks.md", "| used on | encoder |", slice(2, None)) == expected


def test_rates_on_a_gpu_are_as_measured() -> None:
    measured = results("encoders.csv")
    expected = {
        (str(row.image_size), f"{row.batch_size:,}", f"{row.images_per_second:,}", f"{row.memory_mb:,.0f}",
         f"{100 * row.gemm_share:.1f}")
        for row in measured[measured["memory_mb"].notna()].itertuples()
    }  # fmt: skip
    rows = figures("gpu-and-scale.md", "| encoder | images | batch |")
    assert rows
    for side, _, *others in rows:
        assert (side, *others) in expected


def test_scale_is_as_measured() -> None:
    scaling = [
        [f"{row.images:,}", f"{row.images_per_second:,}", f"{row.epoch_seconds}", f"{row.peak_memory_mb}"]
        for row in results("scaling.csv").itertuples()
    ]
    assert figures("gpu-and-scale.md", "| images | images/s |", slice(None)) == scaling
    decoding = results("decoding.csv")
    first, again = (decoding.iloc[start::2].reset_index() for start in (0, 1))
    expected = [
        [f"{a.images:,}", f"{a.seconds}", f"{b.seconds}", f"{max(a.peak_memory_mb, b.peak_memory_mb)}"]
        for a, b in zip(first.itertuples(), again.itertuples(), strict=True)
    ]
    assert figures("gpu-and-scale.md", "| images | first, s |", slice(None)) == expected


def kind_of_situation(setting: str) -> str:
    kinds = (" runs", "in none", "accuracy 0.98", "macro")
    situation = next((kind for kind in kinds if kind in setting), "")
    grouped = " in groups" if situation in kinds[2:] and "groups of 10" in setting else ""
    return f"{setting.split(',')[0]} {situation}{grouped}"


def test_intervals_cover_and_are_not_much_too_wide() -> None:
    table = results("coverage.csv")
    simulated = table[~table["setting"].str.contains("real test images")]
    assert len(simulated) == 2 * len(all_settings())
    real = table[table["setting"].str.contains("real test images")]
    assert len(real) == 2 * 3 * 2
    shown = f"{100 * real['coverage'].min():.1f} to {100 * real['coverage'].max():.1f} %"
    assert shown in " ".join(committed("docs/benchmarks.md").split())
    # Of 2,000; where nothing varies there is no interval: often where nearly all of few images are right.
    few_errors = simulated["setting"].str.contains(r" 60 test images .*accuracy 0\.98")
    assert (simulated[~few_errors]["simulations"] > 1900).all()
    assert (simulated["simulations"] > 1300).all()
    assert table["coverage"].min() >= 0.93
    of_grid = simulated["setting"].str.replace(r"^(gain|accuracy), ", "", regex=True).isin(map(str, grid()))
    assert of_grid.sum() == 2 * len(grid())
    # The others are at the edges, where intervals are wide.
    assert simulated["coverage"][of_grid].median() <= 0.975
    kinds = simulated["setting"].map(kind_of_situation)
    expected = [
        [str(len(part)), *(f"{value:.3f}" for value in (part.min(), part.median(), part.max()))]
        for part in (simulated["coverage"][kinds == kind] for kind in kinds.unique())
    ]
    assert figures("benchmarks.md", "| interval of") == expected

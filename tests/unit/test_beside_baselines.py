"""The simple baselines beside the methods: which is the best, gains over it, sentences, rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.compare import figures, inputs, predictions, report
from stages.compare.baselines import GAIN, OVER_PUBLIC, SimpleBaselines
from stages.compare.evidence import collect
from stages.compare.measured import Measured
from stages.compare.statistics import Design
from stages.errors import InputError
from stages.files.packs import write_array
from stages.files.paths import BASELINES, PREDICTED_IMAGES, PREDICTIONS
from stages.files.tables import write_table
from stages.tasks.model_index import Model, write_index
from tests import invented_results

LABELS = np.arange(600) % 3
DESIGN = Design(draws=3, runs=1, images=600, units=600, labelled=5000)


def right_on(shares: list[float], seed: int = 0, overlap: float = 0.0) -> Measured:
    """Models, one a draw, that are right on these shares of 600 test images."""
    random, predicted = np.random.default_rng(seed), []
    for share in shares:
        wrong = random.permutation(600)[: round(600 * (1 - share))]
        guesses = LABELS.copy()
        guesses[wrong] = (guesses[wrong] + 1) % 3
        predicted.append(np.eye(3, dtype=np.float32)[guesses])
    return Measured.of(predicted, LABELS, np.arange(600), [0] * len(shares), overlap)


ALWAYS = Measured.of(
    [np.tile(np.array([1, 0, 0], dtype=np.float32), (600, 1))] * 3, LABELS, np.arange(600), [0] * 3, 1.0
)
SIMPLE = SimpleBaselines(
    {
        "majority": {"n10": ALWAYS},
        "pixels_1nn": {"n10": right_on([0.5, 0.52, 0.51], 1)},
        "hog_svm": {"n10": right_on([0.6, 0.62, 0.61], 2)},
    },
    {"n10": {"majority": 0.99, "pixels_1nn": 0.7, "hog_svm": 0.6}},
)
UNCHOSEN = SimpleBaselines(SIMPLE.measured)
METHOD = {"simclr": {"n10": {"finetuned": right_on([0.8, 0.82, 0.81], 3)}}}


def test_the_best_is_chosen_on_validation_and_never_is_the_majority() -> None:
    assert SIMPLE.best("n10") == "pixels_1nn"
    assert UNCHOSEN.best("n10") == "hog_svm"  # as the test describes it
    assert SimpleBaselines({"majority": {"n10": ALWAYS}}).best("n10") == "majority"
    assert SimpleBaselines().best("n10") is None
    assert SimpleBaselines().gains(METHOD) == {}


def test_gains_are_paired_by_draw_and_image() -> None:
    row = UNCHOSEN.gains(METHOD)["simclr"]["n10"]
    assert row[GAIN] == pytest.approx(0.2, abs=1e-4)
    arm = METHOD["simclr"]["n10"]["finetuned"].replicates("accuracy")
    base = SIMPLE.measured["hog_svm"]["n10"].replicates("accuracy")
    assert row[f"{GAIN}_ci95"] == pytest.approx(arm.over(base).estimate().ci95, abs=1e-4)
    other = SIMPLE.gains(METHOD)["simclr"]["n10"]
    assert other[GAIN] == pytest.approx(0.3, abs=1e-4)


PROBED = right_on([0.9, 0.92, 0.91], 5)
WITH_PUBLIC = SimpleBaselines(
    {**SIMPLE.measured, "imagenet": {"n10": PROBED}},
    {"n10": {**SIMPLE.validation["n10"], "imagenet": 0.98}},
)


def test_public_weights_are_no_simple_baseline_and_have_a_gain_of_their_own() -> None:
    assert WITH_PUBLIC.best("n10") == "pixels_1nn"
    assert SimpleBaselines({"imagenet": {"n10": PROBED}}).best("n10") is None
    row = WITH_PUBLIC.gains(METHOD)["simclr"]["n10"]
    assert row[GAIN] == SIMPLE.gains(METHOD)["simclr"]["n10"][GAIN]
    assert row[OVER_PUBLIC] == pytest.approx(-0.1, abs=1e-4)
    arm = METHOD["simclr"]["n10"]["finetuned"].replicates("accuracy")
    assert row[f"{OVER_PUBLIC}_ci95"] == pytest.approx(
        arm.over(PROBED.replicates("accuracy")).estimate().ci95, abs=1e-4
    )


def test_a_method_is_told_how_it_stands_beside_public_weights() -> None:
    def sentence(gain: float, half: float | None) -> str:
        row = {OVER_PUBLIC: gain} | ({} if half is None else {f"{OVER_PUBLIC}_ci95": half})
        return WITH_PUBLIC.public_sentence(row, "simclr", "n10", DESIGN)

    beside = "public weights, a linear probe of ImageNet's MobileNetV2 (91.00 %)"
    assert sentence(0.05, 0.02) == f"It is above {beside}: +5.00 ± 2.00 points."
    assert sentence(-0.05, 0.02) == f"It is below {beside}: -5.00 ± 2.00 points."
    assert sentence(0.01, 0.02) == f"It is not measurably better or worse than {beside}: +1.00 ± 2.00 points."
    assert sentence(0.01, None) == f"Beside {beside}: +1.00 points; equal draws have no interval."
    assert SIMPLE.public_sentence({GAIN: 0.1}, "simclr", "n10", DESIGN) == ""


def test_where_one_class_is_frequent_the_gains_are_told_in_macro_recall_too() -> None:
    gains = WITH_PUBLIC.recall_gains(METHOD)["simclr"]["n10"]
    arm = METHOD["simclr"]["n10"]["finetuned"].replicates("recall_macro")
    for name, key in (("pixels_1nn", GAIN), ("imagenet", OVER_PUBLIC)):
        expected = arm.over(WITH_PUBLIC.measured[name]["n10"].replicates("recall_macro")).estimate()
        gain = gains[f"recall_macro_{key}"]
        assert (gain["mean"], gain["ci95"]) == pytest.approx((expected.mean, expected.ci95), abs=1e-4)
    above, below = ({"mean": mean, "ci95": 0.02} for mean in (0.05, -0.01))
    of = {f"recall_macro_{GAIN}": above, f"recall_macro_{OVER_PUBLIC}": below}
    expected_words = (
        "By macro recall: +5.00 ± 2.00 points over the best simple baseline; "
        "-1.00 ± 2.00 points over public weights, which is not measurable."
    )
    assert WITH_PUBLIC.recall_sentence(of, [60, 20, 20]) == expected_words
    assert WITH_PUBLIC.recall_sentence(of, [40, 30, 30]) == ""
    assert WITH_PUBLIC.recall_sentence({}, [60, 20, 20]) == ""
    one = {f"recall_macro_{GAIN}": {"mean": 0.05}}
    assert "+5.00 points over the best simple baseline, which is not" in WITH_PUBLIC.recall_sentence(
        one, [60, 20, 20]
    )


def test_the_majority_has_the_interval_of_the_test_images_alone() -> None:
    accuracy = SIMPLE.figures()["majority"]["n10"]["baseline"]["accuracy"]
    assert accuracy["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert accuracy["ci95"] == pytest.approx(1.96 * np.sqrt(2 / 9 / 600), rel=0.02)
    assert set(SIMPLE.figures()["hog_svm"]["n10"]["baseline"]) == {
        "accuracy", "recall_macro", "precision_macro", "f1_macro",
    }  # fmt: skip


def test_sentences_say_above_below_or_neither() -> None:
    def sentence(simple: SimpleBaselines, gain: float, half: float | None) -> str:
        row = {"accuracy": 0.7, GAIN: gain} | ({} if half is None else {f"{GAIN}_ci95": half})
        return simple.sentence(row, "simclr", "n10", DESIGN)

    best = "the best simple baseline, the nearest image by pixels (51.00 %)"
    assert sentence(SIMPLE, 0.051, 0.012) == f"It is above {best}: +5.10 ± 1.20 points."
    assert sentence(SIMPLE, -0.051, 0.012) == f"It is below {best}: -5.10 ± 1.20 points."
    neither = sentence(SIMPLE, 0.01, 0.012)
    assert neither == f"It is not measurably better or worse than {best}: +1.00 ± 1.20 points."
    assert sentence(SIMPLE, 0.01, None) == f"Beside {best}: +1.00 points; equal draws have no interval."
    described = sentence(UNCHOSEN, 0.1, 0.01)
    assert "the best simple baseline on the test (validation has too few labels to choose), HOG" in described
    assert sentence(SimpleBaselines(), 0.1, 0.01) == ""


def test_a_method_below_the_majority_is_told_so() -> None:
    row = {"accuracy": 0.3, GAIN: 0.1, f"{GAIN}_ci95": 0.01}
    text = SIMPLE.sentence(row, "simclr", "n10", DESIGN)
    assert "Always answering the commonest class is right more often (33.33 %): draws are balanced" in text
    assert "commonest" not in SIMPLE.sentence(row | {"accuracy": 0.4}, "simclr", "n10", DESIGN)


def test_rows_of_the_table_have_a_protocol_of_their_own() -> None:
    table = SIMPLE.efficiency({"n10": 10})
    assert table["protocol"].unique().tolist() == ["baseline"]
    assert table["method"].tolist() == ["majority", "pixels_1nn", "hog_svm"]
    assert table["labels"].tolist() == [10, 10, 10]
    assert len(SimpleBaselines().efficiency({"n10": 10})) == 0


def test_the_report_has_rows_and_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classes, labels = ["a", "b", "c"], {"n10": 10, "n50": 50}
    found = invented_results.write(["scratch", "simclr"], labels, draws=3, classes=classes, test=600)
    evaluations = {
        method: {
            budget: dict.fromkeys(("finetuned", "linear", "knn"), right_on(shares, 4 + number))
            for budget in labels
        }
        for number, (method, shares) in enumerate({"scratch": [0.7] * 3, "simclr": [0.8] * 3}.items())
    }
    both = {name: dict.fromkeys(labels, of["n10"]) for name, of in WITH_PUBLIC.measured.items()}
    simple = SimpleBaselines(both, {"n10": SIMPLE.validation["n10"]})
    table = pd.concat([figures.label_efficiency(evaluations, labels), simple.efficiency(labels)])
    page = report.render(collect(evaluations, table, labels, inputs.read_data(), simple))
    assert page.count('<tr class="simple">') == 2 * 4
    assert page.count(">best baseline</td>") == 2
    assert "above the best simple baseline, the nearest image by pixels (51.00 %)" in page
    assert "below public weights, a linear probe of ImageNet's MobileNetV2 (91.00 %)" in page
    for key in ("simclr.n10.gain_over_baseline", "scratch.n50.gain_over_imagenet"):
        assert key in page
    assert "hog_svm: HOG + SVM" in page
    without = report.render(found)
    assert "simple baseline" not in without
    assert "ImageNet" not in without
    assert '<tr class="simple">' not in without


def test_baselines_of_other_draws_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = pd.DataFrame({"id": list("abcdef"), "label": [0, 1] * 3, "unit": range(6)})
    content = np.tile(np.array([0.5, 0.5], dtype=np.float32), (6, 1))

    def write(folder: Path, protocol: str, draws: int) -> None:
        models = [Model(f"{draw}.npy", protocol, "n4", draw, draw % 2, "x") for draw in range(draws)]
        for model in models:
            write_array(folder / model.file, content)
        write_index(folder, models)
        write_table(folder / PREDICTED_IMAGES, images)

    write(PREDICTIONS / "scratch", "finetuned", 3)
    write(BASELINES / "hog_svm", "baseline", 3)
    write(BASELINES / "majority", "baseline", 3)
    found = predictions.read_baselines(["hog_svm", "majority"], ["n4"], [10, 10], "scratch")
    assert found["hog_svm"]["n4"].overlap == pytest.approx(0.2)
    assert found["majority"]["n4"].overlap == 1  # it has the labels of the whole pool in every draw
    assert predictions.read_baselines([], ["n4"], [10, 10], "scratch") == {}
    write(BASELINES / "hog_svm", "baseline", 2)
    with pytest.raises(InputError, match=r"data/baselines/hog_svm: has other images or draws than"):
        predictions.read_baselines(["hog_svm"], ["n4"], [10, 10], "scratch")

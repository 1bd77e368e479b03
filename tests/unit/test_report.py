import contextlib
import json
import math
import re
import time
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from stages.compare import charts, inputs, method_charts, ranking_charts, report, svg, verdict, wording
from stages.compare.choices import choices
from stages.compare.evidence import Evidence
from stages.compare.names import HEXAGRAMS
from stages.compare.statistics import Design
from stages.errors import InputError
from stages.files.paths import METRICS
from tests import invented_results

LABELS = {"n10": 10, "n100": 100}
CLASSES = [str(digit) for digit in range(10)]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the charts empty, where a test is about the words of the page: they take most of the time."""
    for name in ("training", "efficiency", "gains"):
        monkeypatch.setattr(charts, name, lambda *_arguments: "<svg></svg>")
    for name in ("confusion", "recalls", "reliability", "feature_map"):
        monkeypatch.setattr(method_charts, name, lambda *_arguments: "<svg></svg>")
    monkeypatch.setattr(ranking_charts, "ranking", lambda *_arguments: [])


@pytest.fixture
def _without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_drawing(monkeypatch)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the control and a method, three draws, with all charts."""
    with contextlib.chdir(tmp_path_factory.mktemp("usual")):
        return report.render(invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES))


class Page(HTMLParser):
    """The content of a page: identifiers, figures by their keys, images, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.figures: list[tuple[str, str]] = []
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self._key: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if tag == "data":
            self._key = values["data-key"]
        if tag == "img":
            self.images.append(values)
        self.addresses += [
            str(values[name]) for name in ("src", "href", "xlink:href", "action") if values.get(name)
        ]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self._key is not None:
            self.figures.append((self._key, text))
            self._key = None
        if self.open and self.open[-1] not in ("style", "script"):
            self.words += text


def rendered(of: Evidence) -> Page:
    return parsed(report.render(of))


def parsed(text: str) -> Page:
    page = Page(text)
    assert page.open == []  # every element is closed
    assert len(set(page.ids)) == len(page.ids)
    assert "nan" not in page.words.lower().split()
    assert "None" not in page.words.split()
    return page


def value(summary: Any, key: str) -> float:
    for part in key.split("."):
        summary = summary[part]
    return float(summary)


@pytest.mark.parametrize(
    "methods", [["scratch", "autoencoder", "simclr"], ["scratch"], ["simclr"], ["simclr", "vicreg"]]
)
@pytest.mark.parametrize("draws", [1, 3])
def test_every_marked_figure_is_that_of_the_summary(
    methods: list[str], draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The charts are drawn once for each set of methods: with three draws, or with one.
    if draws != (1 if methods in (["scratch"], ["simclr", "vicreg"]) else 3):
        without_drawing(monkeypatch)
    made_up = invented_results.write(methods, LABELS, draws, CLASSES)
    page = rendered(made_up)
    summary = json.loads(json.dumps(made_up.summary))
    for key, text in page.figures:
        assert float(text) == pytest.approx(100 * value(summary, key), abs=1e-9), key
    shown = {key for key, _ in page.figures}
    every = {
        f"{m}.{b}.{name}" for m, budgets in summary.items() for b, row in budgets.items() for name in row
    }
    assert shown == every
    assert ("accuracy_ci95" in summary[methods[0]]["n10"]) == (draws > 1)


def test_the_page_has_its_sections_and_pictures_and_no_outside_address(usual: str) -> None:
    page = parsed(usual)
    for name in ("verdict", "labels", "models", "training", "methods", "data", "provenance"):
        assert name in page.ids
    assert {"tab-scratch", "panel-simclr", "choices", "summary"} <= set(page.ids)
    assert page.addresses
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    inside = {address[1:] for address in page.addresses if address.startswith("#")}
    assert inside <= set(page.ids)
    assert all(image["alt"] for image in page.images)
    mistaken = [image for image in page.images if "predicted" in str(image["alt"])]
    invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES)
    tables = [inputs.read_method(method).mistakes for method in ("scratch", "simclr")]
    expected = [
        f"is {row.actual}, predicted {row.predicted}" for table in tables for row in table.itertuples()
    ]
    assert [image["alt"] for image in mistaken] == expected
    assert len(mistaken) > 10


def test_equal_inputs_give_equal_bytes(usual: str) -> None:
    report.write(Path("again.html"), invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES))
    assert Path("again.html").read_bytes() == usual.encode()


def test_fifty_classes_are_shown_and_the_page_stays_small() -> None:
    names = [f"class é {number}" for number in range(49)] + ["NA"]
    made_up = invented_results.write(
        ["scratch", "simclr"], {"n50": 50, "n100": 100, "nall": 4000}, 2, names, test=1000
    )
    text = report.render(made_up)
    assert len(text.encode()) / len(made_up.results) < 5_000_000 / 11  # eleven methods have room
    page = Page(text)
    assert all(name in page.words for name in names)
    assert "4,000" in page.words


def test_a_class_that_is_never_predicted_has_a_recall_of_zero() -> None:
    made_up = invented_results.write(["simclr"], LABELS, 3, CLASSES, never=4)
    assert made_up.details["simclr"]["n100"]["finetuned"]["recall"][4]["mean"] == 0
    rendered(made_up)
    predicted = inputs.read_method("simclr").confusion
    assert (predicted[predicted["predicted"] == "4"]["share"] == 0).all()


def test_without_labels_the_page_says_so() -> None:
    page = rendered(invented_results.write(["scratch", "simclr"], {}, 0, []))
    assert "nothing was finetuned" in page.words
    assert page.figures == []
    assert "choices" not in page.ids
    assert "panel-simclr" in page.ids  # its images are still shown


def test_a_flawless_model_has_no_mistakes() -> None:
    page = rendered(invented_results.write(["simclr"], LABELS, 2, CLASSES, flawless=True))
    assert "None: every test image is classified correctly." in page.words


def test_names_in_the_data_are_escaped() -> None:
    text = report.render(
        invented_results.write(
            ["simclr"],
            LABELS,
            2,
            ["<b>a</b>", "b & <script>", "$5_$", 'x id="q" y', "_z", *CLASSES[:3]],
        )
    )
    assert "<b>a</b>" not in text
    assert text.count("<script>") == 1  # that of the page
    assert "&lt;b&gt;bad&lt;/b&gt; &amp; file" in text


@pytest.mark.parametrize(
    "name",
    [
        "font: 12px bold",
        "font-family: x",
        "0.12345",
        "#010203",
        "url(#a",
        'href="#a',
        ' transform="rotate(0 x" y',
        ' id="q" y',
    ],
)
def test_a_name_that_looks_like_svg_is_unchanged_in_a_chart(name: str) -> None:
    with svg.panel() as (figure, axis):
        axis.set(title=name)
        assert name in Page(svg.svg(figure, "chart", "a chart")).words


@pytest.mark.usefixtures("_without_drawing")
def test_at_most_fifty_left_out_files_are_listed() -> None:
    page = rendered(invented_results.write(["scratch", "simclr"], LABELS, 2, CLASSES))
    assert "And 10 more" in page.words


@pytest.mark.usefixtures("_without_drawing")
def test_the_stars_are_decided_on_validation() -> None:
    made_up = invented_results.write(["scratch", "autoencoder", "simclr"], LABELS, 3, CLASSES)
    rows = {row.result.method: row for row in choices(made_up.results, made_up.summary, made_up.budgets)}
    # Accuracy on validation and training time both grow from method to method, so every method is optimal.
    assert [rows[m].training_seconds for m in rows] == [0, 30, 60]
    assert all(row.optimal == {"n10", "n100"} for row in rows.values())
    tested = {of: {b: {**row, "accuracy": 0.1} for b, row in made_up.summary[of].items()} for of in rows}
    assert [row.optimal for row in choices(made_up.results, tested, made_up.budgets)] == [
        row.optimal for row in rows.values()
    ]  # the test decides nothing
    made_up.results[2].model["validation"]["n10"]["finetuned"] = 0.1
    lowered = choices(made_up.results, made_up.summary, made_up.budgets)
    assert [row.optimal for row in lowered if row.result.method == "simclr"] == [{"n100"}]
    assert "★ marks the Pareto-optimal methods" in rendered(made_up).words


@pytest.mark.usefixtures("_without_drawing")
def test_without_enough_labels_of_validation_there_is_no_star() -> None:
    made_up = invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES)
    for result in made_up.results:
        result.model["validation"] = {}
    page = rendered(made_up)
    assert "★" not in page.words
    assert "No method is marked as the best choice" in page.words


def test_the_method_of_the_verdict_is_chosen_on_validation() -> None:
    assert verdict.headline({"scratch": 0.99, "simclr": 0.7, "vicreg": 0.8}) == "vicreg"
    assert verdict.headline({"scratch": 0.9}) == "scratch"
    assert verdict.headline({"scratch": None, "simclr": None, "vicreg": None}) == "simclr"


@pytest.mark.usefixtures("_without_drawing")
def test_the_choice_of_a_method_is_explained_only_where_there_was_one() -> None:
    made_up = invented_results.write(["scratch", "autoencoder", "simclr"], LABELS, 2, CLASSES)
    assert "best kNN accuracy on validation" in report.render(made_up)
    counts = {**made_up.data.counts, "validation_labelled": 99}
    text = report.render(replace(made_up, data=replace(made_up.data, counts=counts)))
    assert "best kNN accuracy on validation" not in text
    assert "because validation has 99 labels, too few to choose one by" in text
    text = report.render(invented_results.write(["scratch", "simclr"], LABELS, 2, CLASSES))
    assert "The verdict is about" not in text


def test_intervals_are_explained(usual: str) -> None:
    words = parsed(usual).words
    assert "± is the 95 % interval over 3 draws and the test images" in words
    covered = "An interval covers the choice of the labels (3 draws), the randomness of finetuning, and the "
    assert f"{covered}choice of the 400 test images." in words
    assert (
        "It does not cover the randomness of pretraining, of which there is one run, nor the choice" in words
    )
    bars = "Error bars: 95 % intervals over 3 draws and the test images"
    assert words.count(bars) == 3 + 1 + 2  # efficiency, gains, recall
    assert "No error bars" not in words


@pytest.mark.usefixtures("_without_drawing")
def test_one_draw_has_no_interval_and_no_measurable_gain() -> None:
    words = rendered(invented_results.write(["scratch", "simclr"], LABELS, 1, CLASSES)).words
    assert "95 % interval" not in words
    assert "±" not in words
    assert "no gain can be called measurable" in words
    assert words.count("on one draw; one draw has no interval, so the difference cannot be called") == 2
    assert words.count("No error bars: one draw has no interval.") == 3 + 1 + 2
    assert "Labels saved" not in words


@pytest.mark.usefixtures("_without_drawing")
def test_equal_draws_have_no_interval_and_no_measurable_gain() -> None:
    made_up = invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES, equal=True)
    page = rendered(made_up)
    assert made_up.summary["simclr"]["n10"]["gain"] > 0.1
    assert not any(key.endswith("ci95") for key, _ in page.figures)
    words = page.words
    assert (
        words.count("in each of 3 draws; equal draws have no interval, so the difference cannot be called")
        == 2
    )
    assert words.count("No error bars: equal draws have no interval.") == 3 + 1 + 2
    assert "measurable gain" not in words
    assert "Labels saved" not in words


def test_missing_error_bars_are_explained_beside_the_others() -> None:
    three, one, four_images = (
        Design(3, 1, 400, 400, 900),
        Design(1, 1, 400, 400, 900),
        Design(3, 1, 4, 4, 900),
    )
    bars = "Error bars: 95 % intervals over 3 draws and the test images"
    assert wording.describe([0.1, 0.2], three) == f"{bars}."
    assert wording.describe([0.1, math.nan], three) == f"{bars}; equal draws have no interval."
    assert wording.describe([math.nan], one) == "No error bars: one draw has no interval."
    few = "No error bars: a test that counts as fewer than 5 images has no interval."
    assert wording.describe([math.nan], four_images) == few


@pytest.mark.usefixtures("_without_drawing")
def test_a_small_test_split_is_said_with_the_gain_that_it_shows() -> None:
    words = rendered(invented_results.write(["scratch", "simclr"], LABELS, 2, CLASSES, test=60)).words
    assert "That is a small test split" in words
    assert "the 60 labelled test images were expected to show gains from about" in words
    words = rendered(invented_results.write(["scratch", "simclr"], LABELS, 2, CLASSES)).words
    assert "small test split" not in words


CLAIMS = {  # a sentence of the verdict that says something for sure: its figure in the summary, and the sign
    "pretraining raises accuracy": ("gain", 1), "pretraining lowers accuracy": ("gain", -1),
    "raises it to": ("distilled_gain", 1), "lowers it to": ("distilled_gain", -1),
}  # fmt: skip


def claims_only_what_intervals_allow(page: Page, summary: Any) -> list[str]:
    """The claims of the verdict, each of which must have an interval without 0 in the summary."""
    made = []
    for labels, method, text in re.findall(r"With ([\d,]+) labels, (\w+) (.+)", page.words):
        row = summary[method][f"n{labels.replace(',', '')}"]
        for words, (name, sign) in CLAIMS.items():
            if words in text:
                made.append(words)
                assert sign * row[name] > row[f"{name}_ci95"], f"{method} at {labels} labels: {words}"
    return made


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.usefixtures("_without_drawing")
def test_a_planted_claim_beyond_the_interval_is_noticed(claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up, (name, sign) = invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES), CLAIMS[claim]
    row = made_up.summary["simclr"]["n10"]
    row[name] = sign * 0.05
    row[f"{name}_ci95"] = 0.02
    assert claim in claims_only_what_intervals_allow(rendered(made_up), made_up.summary)
    row[f"{name}_ci95"] = 0.1
    claims_only_what_intervals_allow(rendered(made_up), made_up.summary)
    monkeypatch.setattr(verdict, "measurable", lambda row, name="gain": name in row)
    with pytest.raises(AssertionError, match=f"simclr at 10 labels: {claim}"):
        claims_only_what_intervals_allow(rendered(made_up), made_up.summary)


@pytest.mark.usefixtures("_without_drawing")
def test_distilled_is_shown_where_it_was_done() -> None:
    made_up = invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES)
    page = rendered(made_up)
    shown = {key: text for key, text in page.figures if ".distilled" in key}
    assert {key.split(".")[1] for key in shown} == {"n10"}
    row = made_up.summary["simclr"]["n10"]
    assert shown["simclr.n10.distilled_gain"] == f"{100 * row['distilled_gain']:+.2f}"
    of_three = page.words.count("1 of 3") - page.words.count("in 1 of 3 draws")
    assert of_three == 1  # of simclr, the draw that was not spread
    assert page.words.count("3 of 3") == 1  # of scratch all: validation speaks against its distilled models
    for budgets in made_up.summary.values():
        for name in [name for name in budgets["n10"] if name.startswith("distilled")]:
            del budgets["n10"][name]
    without = report.render(
        replace(made_up, efficiency=made_up.efficiency[made_up.efficiency["protocol"] != "distilled"])
    )
    assert "istilled" not in parsed(without).words


@pytest.mark.usefixtures("_without_drawing")
def test_the_title_is_the_name_of_the_data() -> None:
    made_up = invented_results.write(["scratch", "simclr"], LABELS, 2, CLASSES)
    assert "<h1>What pretraining bought on MNIST</h1>" in report.render(made_up)
    data = {"source": "folder", "path": "/home/me/leaf photos"}
    made_from = {**made_up.data.made_from, "parameters": {"data": data}}
    text = report.render(replace(made_up, data=replace(made_up.data, made_from=made_from)))
    assert "<h1>What pretraining bought on leaf photos</h1>" in text
    assert "<title>Headstart: what pretraining bought on leaf photos</title>" in text


@pytest.mark.parametrize(
    ("path", "name"), [("data/raw", "data/raw"), ("photos/", "photos"), ("../a/b c", "b c"), (".", ".")]
)
def test_a_folder_is_called_by_its_last_name(path: str, name: str) -> None:
    assert report.folder_name(path) == name


@pytest.mark.usefixtures("_without_drawing")
@pytest.mark.parametrize(("largest", "times"), [(10, 0), (110, len(LABELS))])
def test_macro_recall_is_said_where_one_class_is_frequent(largest: int, times: int) -> None:
    made_up = invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES)
    counts = [largest, *[10] * (len(CLASSES) - 1)]
    table = made_up.data.classes.assign(test=counts)
    page = report.render(replace(made_up, data=replace(made_up.data, classes=table)))
    share = 100 * largest / sum(counts)
    assert page.count(f"The largest class has {share:.0f} % of the test images.") == times


def test_balanced_draws_are_said(usual: str) -> None:
    assert "Draws are balanced: equally many labels of each class" in parsed(usual).words


@pytest.mark.usefixtures("_without_drawing")
def test_mistakes_carry_their_file_names() -> None:
    made_up = invented_results.write(["simclr"], LABELS, 2, CLASSES)
    data = {"source": "folder", "path": "data/raw"}
    made_from = {**made_up.data.made_from, "parameters": {"data": data}}
    words = rendered(replace(made_up, data=replace(made_up.data, made_from=made_from))).words
    files = list(inputs.read_method("simclr").mistakes["file"])
    assert files
    assert all(file.startswith("data/raw/") for file in files)
    assert all(file.removeprefix("data/raw/") in words for file in files)
    assert "data/raw/photo" not in words


def test_a_confusion_matrix_has_counts_and_shares() -> None:
    rows = pd.DataFrame(
        {"actual": ["a", "a", "b", "b"], "predicted": ["a", "b", "a", "b"]}
        | {"images": [37.0, 1.5, 0.0, 1200.0], "share": [0.96, 0.04, 0.0, 1.0]}
    )
    texts = Page(method_charts.confusion("simclr", "n10", "10 labels", rows, ["a", "b"])).words
    assert [text for text in ("37", "96%", "1.5", "4%", "1,200", "100%") if text not in texts] == []


@pytest.mark.usefixtures("_without_drawing")
def test_the_largest_confusions_of_many_classes_are_listed() -> None:
    names = [f"class {number}" for number in range(20)]
    made_up = invented_results.write(["simclr"], LABELS, 2, names)
    pairs = report.largest_confusions(made_up, made_up.results[0])
    counts = [pair["images"] for pair in pairs]
    assert 0 < len(pairs) <= report.CONFUSIONS
    assert counts == sorted(counts, reverse=True)
    assert all(pair["actual"] != pair["predicted"] for pair in pairs)
    assert "taken for each other most often" in rendered(made_up).words
    few = invented_results.write(["simclr"], LABELS, 2, CLASSES)
    assert report.largest_confusions(few, few.results[0]) == []


def test_two_classes_have_curves_over_all_thresholds() -> None:
    page = rendered(invented_results.write(["simclr"], LABELS, 2, ["good", "缺陷"]))
    assert "simclr: thresholds" in page.words
    for words in (
        "100 labels: area 0.",
        "good, taken for 缺陷, %",
        "probability of 缺陷 that is asked for",
    ):
        assert words in page.words
    assert ranking_charts.ranking("simclr", {}, LABELS, CLASSES) == []


def test_names_of_any_length_and_script_are_drawn_without_warnings() -> None:
    names = ["x" * 100_000, "缺陷", "한국어", "🙂", *CLASSES[:3]]
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = report.render(invented_results.write(["simclr"], LABELS, 2, names))
    assert time.process_time() - started < 60
    assert len(text.encode()) < 2_000_000
    words = parsed(text).words
    assert all(name in words for name in names[1:])
    assert not set(words) & set(HEXAGRAMS)


def with_pretraining(of: Evidence, **figures: Any) -> Evidence:
    """The evidence with other figures of pretraining."""
    results = [replace(result, pretrain={**result.pretrain, **figures}) for result in of.results]
    return replace(of, results=results)


@pytest.mark.usefixtures("_without_drawing")
def test_doubts_about_the_pretraining_are_said_where_it_gains_nothing() -> None:
    made_up = invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES)
    doubtful = with_pretraining(made_up, doubts=["48 steps are few"], collapse="step 7: <no> spread")
    assert "may come from the setting" not in rendered(doubtful).words  # it gains something everywhere
    made_up.summary["simclr"]["n100"]["gain"] = -0.02
    words = rendered(doubtful).words
    assert "A missing gain may come from the setting, not from the data." in words
    assert (
        "Pretraining is doubtful: the features collapsed at step 7: <no> spread; 48 steps are few." in words
    )
    assert "may come from the setting" not in rendered(made_up).words  # nothing is doubtful


@pytest.mark.usefixtures("_without_drawing")
def test_the_chosen_recipes_are_shown() -> None:
    page = rendered(invented_results.write(["scratch", "simclr"], LABELS, 2, CLASSES))
    assert "recipes" in page.ids
    assert page.words.count("cross-validation") == 3
    assert page.words.count("labels of validation, over all draws") == 1
    assert page.words.count("frozen0.01") == 2  # a rate of 0


def test_a_damaged_picture_or_table_is_named() -> None:
    made_up = invented_results.write(["scratch", "simclr"], LABELS, 2, CLASSES)
    file = METRICS / "evaluate" / "simclr_mistakes.png"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=re.escape(str(file))):
        inputs.read_method("simclr")
    file.write_bytes(content)
    table = METRICS / "evaluate" / "simclr_map.csv"
    table.write_text("x,y,class\n1,two,3\n")
    with pytest.raises(InputError, match=re.escape(str(table))):
        inputs.read_method("simclr")
    assert made_up.labels == LABELS


def test_gallery_pictures_are_the_mistaken_images() -> None:
    invented_results.write(["simclr"], LABELS, 2, CLASSES)
    results = inputs.read_method("simclr")
    assert len(results.gallery) == len(results.mistakes)
    assert all(isinstance(tile, Image.Image) and tile.size == (28, 28) for tile in results.gallery)


def test_figures_of_another_version_of_the_code_are_named() -> None:
    made_up = invented_results.write(["scratch", "simclr"], LABELS, 3, CLASSES)
    said = "made by another version of the code: prepare; run `dvc repro` to make them anew"
    assert f"Figures {said}." in parsed(report.render(made_up, said)).words
    assert "other-code" not in rendered(made_up).ids


@pytest.mark.parametrize("count", [1, 9])
def test_a_legend_covers_no_part_of_its_chart(count: int) -> None:
    with svg.panel() as (figure, axis):
        for number in range(count):
            axis.plot([0, 1], [0, number], label=f"line {number}")
        svg.legend_below(axis)
        svg.arrange(figure)
        (legend,) = figure.legends
        assert legend.get_window_extent().y1 < axis.get_tightbbox().y0
        assert len(legend.texts) == count

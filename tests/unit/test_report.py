import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stages.compare import inputs, report, svg, verdict
from stages.compare.choices import choices
from stages.errors import InputError
from stages.evaluate import diagnostics
from stages.files.paths import METRICS
from tests import evidence

LABELS = {"n10": 10, "n100": 100}
CLASSES = [str(digit) for digit in range(10)]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Page(HTMLParser):
    """What stands on a page: sections, figures by their keys, pictures, links, text."""

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
        found = dict(attributes)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "data":
            self._key = found["data-key"]
        if tag == "img":
            self.images.append(found)
        self.addresses += [
            str(found[name]) for name in ("src", "href", "xlink:href", "action") if found.get(name)
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


def rendered(found: report.Evidence) -> Page:
    whole = Page(report.render(found))
    assert whole.open == []  # every element is closed
    assert len(set(whole.ids)) == len(whole.ids)
    return whole


def value(summary: Any, key: str) -> float:
    for part in key.split("."):
        summary = summary[part]
    return float(summary)


@pytest.mark.parametrize(
    "methods", [["scratch", "autoencoder", "simclr"], ["scratch"], ["simclr"], ["simclr", "vicreg"]]
)
@pytest.mark.parametrize("draws", [1, 3])
def test_every_figure_is_the_summarys(methods: list[str], draws: int) -> None:
    found = evidence.write(methods, LABELS, draws, CLASSES)
    whole = rendered(found)
    summary = json.loads(json.dumps(found.summary))
    for key, text in whole.figures:
        assert float(text) == pytest.approx(100 * value(summary, key), abs=1e-9), key
    shown = {key for key, _ in whole.figures}
    every = {
        f"{m}.{b}.{name}" for m, budgets in summary.items() for b, row in budgets.items() for name in row
    }
    assert shown == every
    assert ("accuracy_ci95" in summary[methods[0]]["n10"]) == (draws > 1)
    assert "nan" not in whole.words.lower().split()
    assert "None" not in whole.words.split()


def test_sections_pictures_and_no_address_outside() -> None:
    whole = rendered(evidence.write(["scratch", "simclr"], LABELS, 3, CLASSES))
    for name in ("verdict", "labels", "models", "training", "methods", "data", "provenance"):
        assert name in whole.ids
    assert {"tab-scratch", "panel-simclr", "choices", "summary"} <= set(whole.ids)
    assert whole.addresses
    assert all(address.startswith(("#", "data:")) for address in whole.addresses)
    inside = {address[1:] for address in whole.addresses if address.startswith("#")}
    assert inside <= set(whole.ids)
    assert all(image["alt"] for image in whole.images)
    mistaken = [image for image in whole.images if "taken for" in str(image["alt"])]
    tables = [inputs.read(method).mistakes for method in ("scratch", "simclr")]
    expected = [
        f"is {row.actual}, taken for {row.predicted}" for table in tables for row in table.itertuples()
    ]
    assert [image["alt"] for image in mistaken] == expected
    assert len(mistaken) > 10


def test_equal_inputs_are_equal_bytes_and_small() -> None:
    found = evidence.write(["scratch", "autoencoder", "simclr"], LABELS, 3, CLASSES)
    report.write(Path("a.html"), found)
    report.write(Path("b.html"), evidence.write(["scratch", "autoencoder", "simclr"], LABELS, 3, CLASSES))
    assert Path("a.html").read_bytes() == Path("b.html").read_bytes()
    assert Path("a.html").stat().st_size < 5_000_000


def test_fifty_classes_are_shown_and_the_page_stays_small() -> None:
    names = [f"class é {number}" for number in range(49)] + ["NA"]
    found = evidence.write(["scratch", "simclr"], {"n50": 50, "n100": 100, "nall": 4000}, 2, names, test=1000)
    text = report.render(found)
    assert len(text.encode()) / len(found.sheets) < 5_000_000 / 11  # eleven methods have room
    whole = Page(text)
    assert all(name in whole.words for name in names)
    assert "4,000" in whole.words


def test_a_class_that_is_never_predicted_has_a_recall_of_zero() -> None:
    found = evidence.write(["scratch", "simclr"], LABELS, 3, CLASSES, never=4)
    assert found.details["simclr"]["n100"]["finetuned"]["recall"][4]["mean"] == 0
    rendered(found)
    predicted = inputs.read("simclr").confusion
    assert (predicted[predicted["predicted"] == "4"]["share"] == 0).all()


def test_without_any_label_the_page_says_so() -> None:
    whole = rendered(evidence.write(["scratch", "simclr"], {}, 0, []))
    assert "nothing was finetuned" in whole.words
    assert whole.figures == []
    assert "choices" not in whole.ids
    assert "panel-simclr" in whole.ids  # what it sees is still shown


def test_a_flawless_model_has_no_mistakes() -> None:
    whole = rendered(evidence.write(["scratch", "simclr"], LABELS, 2, CLASSES, flawless=True))
    assert "None: every test image is classified rightly." in whole.words


def test_names_from_outside_are_no_markup() -> None:
    text = report.render(
        evidence.write(
            ["scratch", "simclr"],
            LABELS,
            2,
            ["<b>a</b>", "b & <script>", "$5_$", 'x id="q" y', "_z", *CLASSES[:3]],
        )
    )
    assert "<b>a</b>" not in text
    assert "<script>" in text  # the page's own
    assert text.count("<script>") == 1
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
def test_a_name_that_looks_like_drawing_stands_in_a_chart_as_it_is(name: str) -> None:
    with svg.panel() as (figure, axis):
        axis.set(title=name)
        assert name in Page(svg.svg(figure, "chart", "a chart")).words


def test_what_was_left_out_is_listed_in_part() -> None:
    whole = rendered(evidence.write(["scratch", "simclr"], LABELS, 2, CLASSES))
    assert "And 10 more" in whole.words


def test_the_pareto_best_are_marked() -> None:
    found = evidence.write(["scratch", "autoencoder", "simclr"], LABELS, 3, CLASSES)
    rows = {row.sheet.method: row for row in choices(found.sheets, found.summary, found.budgets)}
    # A skill and a time that grow from method to method: none is beaten in both.
    assert [rows[m].training_seconds for m in rows] == [0, 20, 40]
    assert all(row.best == {"n10", "n100"} for row in rows.values())
    worse = {
        **found.summary,
        "simclr": {b: {**row, "accuracy": 0.1} for b, row in found.summary["simclr"].items()},
    }
    beaten = choices(found.sheets, worse, found.budgets)
    assert [row.best for row in beaten if row.sheet.method == "simclr"] == [frozenset()]


def test_headline_is_chosen_on_validation() -> None:
    assert verdict.headline({"scratch": 0.99, "simclr": 0.7, "vicreg": 0.8}) == "vicreg"
    assert verdict.headline({"scratch": 0.9}) == "scratch"
    assert verdict.headline({"scratch": None, "simclr": None, "vicreg": None}) == "simclr"


def test_the_choice_is_said_only_where_there_was_one(tmp_path: Path) -> None:
    found = evidence.write(["scratch", "autoencoder", "simclr"], LABELS, 2, CLASSES)
    assert "do best on validation (kNN)" in report.render(found)
    for sheet in found.sheets:
        sheet.pretrain["knn"] = None
    text = report.render(found)
    assert "do best on validation (kNN)" not in text
    assert "Validation has no labels to choose a method by" in text
    alone = report.render(evidence.write(["scratch", "simclr"], LABELS, 1, CLASSES))
    assert "do best on validation" not in alone
    assert "no gain can be called measurable" in alone
    assert "95 % ones" not in Page(alone).words
    assert "95 % interval" not in Page(alone).words


def test_a_damaged_picture_or_table_is_named() -> None:
    found = evidence.write(["scratch", "simclr"], LABELS, 2, CLASSES)
    file = METRICS / "evaluate" / "simclr_mistakes.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=re.escape(str(file))):
        inputs.read("simclr")
    file.write_bytes(whole)
    table = METRICS / "evaluate" / "simclr_map.csv"
    table.write_text("x,y,class\n1,two,3\n")
    with pytest.raises(InputError, match=re.escape(str(table))):
        inputs.read("simclr")
    assert found.labels == LABELS


def test_gallery_pictures_are_the_mistaken_images() -> None:
    evidence.write(["simclr"], LABELS, 2, CLASSES)
    found = inputs.read("simclr")
    assert inputs.GALLERY_ACROSS == diagnostics.ACROSS  # two stages, which import nothing from each other
    assert len(found.gallery) == len(found.mistakes)
    assert all(isinstance(tile, Image.Image) and tile.size == (28, 28) for tile in found.gallery)

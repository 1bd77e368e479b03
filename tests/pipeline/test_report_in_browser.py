"""The report in a real browser: what people see, sort, print and read on a phone."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from stages.compare import report
from tests import invented_results
from tests.pipeline.conftest import Project

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
LABELS = {"n10": 10, "n100": 100, "n1000": 1000}
CLASSES = [str(digit) for digit in range(10)]
SECTIONS = ["verdict", "labels", "models", "training", "methods", "data", "provenance"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if BROWSER is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing; .ci/run installs it")
        pytest.skip("needs chromium (Debian's package of this name)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on made-up results of three methods."""
    return write(tmp_path_factory.mktemp("report"), ["scratch", "autoencoder", "simclr"], LABELS, 4, CLASSES)


def write(folder: Path, *arguments: Any) -> Path:
    """Write a report on invented results; the arguments are those of `invented_results.write`."""
    with chdir(folder):
        report.write(folder / "report.html", invented_results.write(*arguments))
    return folder / "report.html"


def opened(browser: Browser, file: Path, **context: Any) -> tuple[Page, list[str]]:
    """A page from disk, and its problems: console messages, errors and requests to the network."""
    page = browser.new_context(**context).new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url),
    )
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.goto(file.as_uri())
    return page, problems


def test_it_opens_from_disk_without_errors_or_network(browser: Browser, made_up: Path) -> None:
    page, problems = opened(browser, made_up)
    for name in SECTIONS:
        assert page.locator(f"section#{name} h2").is_visible(), name
        page.locator(f"nav a[href='#{name}']").click()
    assert page.locator("svg[role=img]").count() >= 3 * 6
    broken = page.evaluate("[...document.images].filter((i) => !i.complete || !i.naturalWidth).length")
    assert broken == 0
    assert problems == []


def test_the_report_of_a_real_run_opens(browser: Browser, project: Project) -> None:
    page, problems = opened(browser, project.path / "metrics" / "report.html")
    assert [name for name in SECTIONS if not page.locator(f"section#{name}").is_visible()] == []
    paragraphs = page.locator("#verdict .verdict p").all_inner_texts()
    begin = ("With 10 labels, simclr", "With 50 labels, simclr", "A missing gain may come from the setting")
    assert [text for text, words in zip(paragraphs, begin, strict=True) if not text.startswith(words)] == []
    assert problems == []
    assert figures(page) == in_percent(project)


@pytest.mark.full
def test_the_report_of_one_method_and_one_draw_opens(browser: Browser, project: Project) -> None:
    project.set(methods=["simclr"], finetune__draws=1)
    again = {"baselines", "finetune@simclr", "distil@simclr", "evaluate@simclr", "compare"}
    assert set(project.repro()) == again
    page, problems = opened(browser, project.path / "metrics" / "report.html")
    verdict = page.locator("#verdict").inner_text()
    assert "on one draw; one draw has no interval; scratch was not run for comparison." in verdict
    assert page.locator("[role=tab]").all_inner_texts() == ["simclr"]
    assert problems == []
    assert figures(page) == in_percent(project)
    assert not [key for key in in_percent(project) if key.endswith("ci95")]
    assert "simclr" in project.stage("stages.compare", "--show").stdout


UNUSUAL: dict[str, tuple[Any, ...]] = {
    "no labels": (["scratch", "simclr"], {}, 0, []),
    "fifty classes": (["scratch", "simclr"], {"n50": 50, "nall": 900}, 3, [f"class {n}" for n in range(50)]),
}


@pytest.mark.parametrize("case", UNUSUAL)
@pytest.mark.parametrize("width", [390, 1200])
def test_unusual_runs_have_a_complete_page(browser: Browser, tmp_path: Path, case: str, width: int) -> None:
    methods, labels, *_ = UNUSUAL[case]
    page, problems = opened(
        browser, write(tmp_path, *UNUSUAL[case]), viewport={"width": width, "height": 844}
    )
    assert [name for name in SECTIONS if not page.locator(f"section#{name} h2").is_visible()] == []
    assert ("nothing was finetuned" in page.locator("#verdict").inner_text()) == (not labels)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("[role=tab]").all_inner_texts() == methods
    assert bool(figures(page)) == bool(labels)
    assert problems == []


def figures(page: Page) -> dict[str, float]:
    """The marked figures of a page by key; a figure that is shown twice has the same value."""
    marked = page.eval_on_selector_all("data", "(all) => all.map((e) => [e.dataset.key, e.textContent])")
    values = {key: float(text) for key, text in marked}
    assert all(values[key] == float(text) for key, text in marked)
    return values


def in_percent(project: Project) -> dict[str, float]:
    """The figures of the summary, as the page should show them."""
    summary = json.loads(project.read("metrics/summary.json"))
    return {
        f"{method}.{budget}.{name}": round(100 * value, 2)
        for method, budgets in summary.items()
        for budget, row in budgets.items()
        for name, value in row.items()
    }


def column(page: Page, number: int, table: str = "choices") -> list[str]:
    return page.locator(f"#{table} tbody tr > :nth-child({number})").all_inner_texts()


def test_the_table_is_sorted_by_mouse_and_keyboard(browser: Browser, made_up: Path) -> None:
    page, _ = opened(browser, made_up)
    assert column(page, 1) == ["scratch", "autoencoder", "simclr"]
    head = page.locator("#choices thead th").nth(1)
    head.get_by_role("button").click()
    down = [float(text.strip("★ ")) for text in column(page, 2)]
    assert down == sorted(down, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert [float(text.strip("★ ")) for text in column(page, 2)] == sorted(down)
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#choices thead th").nth(0).get_by_role("button").click()
    assert column(page, 1) == ["simclr", "scratch", "autoencoder"]
    assert head.get_attribute("aria-sort") is None
    seconds = page.locator("#costs thead th", has_text="pretraining, s").get_by_role("button")
    seconds.click()
    heads = page.locator("#costs thead th").all_inner_texts()
    number = heads.index("pretraining, s") + 1
    assert [float(text) for text in column(page, number, "costs")] == [20.0, 10.0, 0.0]


def test_tabs_show_one_method_by_mouse_and_keyboard(browser: Browser, made_up: Path) -> None:
    page, _ = opened(browser, made_up)

    def shown() -> list[str]:
        panels = page.locator("[role=tabpanel]")
        return [str(p.get_attribute("id")) for p in panels.all() if p.is_visible()]

    assert shown() == ["panel-simclr"]
    page.locator("#tab-scratch").click()
    assert shown() == ["panel-scratch"]
    assert page.locator("#tab-scratch").get_attribute("aria-selected") == "true"
    page.keyboard.press("ArrowRight")
    assert shown() == ["panel-autoencoder"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert shown() == ["panel-simclr"]


def test_without_scripts_nothing_is_hidden(browser: Browser, made_up: Path) -> None:
    page, _ = opened(browser, made_up, java_script_enabled=False)
    panels = page.locator("[role=tabpanel]")
    assert panels.count() == 3
    assert all(panel.is_visible() for panel in panels.all())


def test_in_print_every_method_is_visible_and_no_button(browser: Browser, made_up: Path) -> None:
    page, _ = opened(browser, made_up, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert all(panel.is_visible() for panel in page.locator("[role=tabpanel]").all())
    assert not page.locator(".tabs").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def contrast(first: str, second: str) -> float:
    """The contrast of two CSS colours, `rgb(…)`, by WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_have_enough_contrast_in_light_and_dark(
    browser: Browser, made_up: Path, scheme: Any
) -> None:
    page, _ = opened(browser, made_up, color_scheme=scheme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (contrast(paper, "rgb(0, 0, 0)") < 2) == (scheme == "dark")

    def colour(variable: str) -> str:
        computed: str = page.evaluate(
            "(name) => { const e = document.createElement('i'); e.style.color = `var(${name})`;"
            " document.body.append(e); return getComputedStyle(e).color; }",
            variable,
        )
        return computed

    for variable in ("--ink", "--soft", "--accent"):  # text
        assert contrast(paper, colour(variable)) >= 4.5, variable
    for number in range(8):  # lines and points
        assert contrast(paper, colour(f"--series-{number}")) >= 3, number
    line = page.locator("#labels svg path[style*='--series-0']").first
    assert line.evaluate("(e) => getComputedStyle(e).stroke") == colour("--series-0")


@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_a_phone_and_a_desktop(browser: Browser, made_up: Path, width: int) -> None:
    page, _ = opened(browser, made_up, viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for table in page.locator(".scroll").all():  # wide tables scroll, also by keyboard
        assert table.get_attribute("tabindex") == "0"
    text = page.locator("#labels svg text").first
    height = text.bounding_box()
    assert height is not None
    assert height["height"] >= 8  # pixels, large enough to read


def test_every_control_has_a_name_and_every_picture_a_description(browser: Browser, made_up: Path) -> None:
    page, _ = opened(browser, made_up)
    assert page.locator("html").get_attribute("lang") == "en"
    for button in page.get_by_role("button").all() + page.get_by_role("tab").all():
        assert button.inner_text().strip()
    for picture in page.locator("svg, img").all():
        assert picture.get_attribute("aria-label") or picture.get_attribute("alt")
    levels = [
        int(tag[1])
        for tag in page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((e) => e.tagName)")
    ]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))

"""Class names in charts: short, and measured as a browser draws them."""

import warnings

import pytest

from stages.compare import names, svg


def test_names_that_the_font_has_are_drawn_as_they_are() -> None:
    drawn = names.drawn(["cat", "Müller & Söhne", "Ω-3", "<b>"])
    assert drawn.texts == ["cat", "Müller & Söhne", "Ω-3", "<b>"]
    assert drawn.written == {}


def test_every_name_that_the_font_lacks_has_a_stand_in_of_its_own() -> None:
    classes = [chr(0x4E00 + number) for number in range(200)] + ["缺陷 (gut)", "🙂", "䷀"]
    drawn = names.drawn(classes)
    assert len(set(drawn.texts)) == len(classes)
    assert [drawn.written[text] for text in drawn.texts] == classes
    assert all(set(text) <= set(names.HEXAGRAMS) for text in drawn.texts)


@pytest.mark.parametrize("name", ["缺陷", "한국어이름", "猫と犬の写真のフォルダ", "缺陷 abcdefgh"])
def test_a_stand_in_is_as_wide_as_the_name_in_a_browser(name: str) -> None:
    (text,) = names.drawn([name]).texts
    em = sum(1.0 if ord(letter) > 0x1100 else names.NARROW for letter in name)
    assert len(text) * names.HEXAGRAM == pytest.approx(em, abs=names.HEXAGRAM / 2)


def test_a_chart_shows_such_names_without_warnings() -> None:
    drawn = names.drawn(["缺陷", "<良品>", "cat"])
    with warnings.catch_warnings(), svg.panel() as (figure, axis):
        warnings.simplefilter("error")
        axis.set_yticks(range(3), drawn.texts)
        text = svg.svg(figure, "chart", "a chart", drawn.written)
    assert ">缺陷<" in text
    assert ">&lt;良品&gt;<" in text
    assert not set(text) & set(names.HEXAGRAMS)


def test_a_long_name_loses_its_middle() -> None:
    assert names.shortened("a" * 50_000 + "z" * 50_000) == "a" * 12 + "…" + "z" * 11
    assert names.shortened("x" * names.LONGEST) == "x" * names.LONGEST
    assert len(names.shortened("x" * 100, 60)) == 60


def test_a_name_is_one_line_without_control_characters() -> None:
    assert names.shortened("two\nlines\tand \x1b[1m") == "two lines and \ufffd[1m"
    assert names.shortened(" ") == "–"

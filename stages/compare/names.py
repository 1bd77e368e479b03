"""Names of classes for charts: short, on one line, and as wide for matplotlib as for a browser.

Matplotlib lays a chart out, a browser draws its text. Matplotlib's own font lacks, for example, Chinese and
emoji: it would warn for every such letter and measure it too narrow. So it gets a stand-in of about the right
width, and the page gets the name.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from matplotlib.font_manager import findfont, get_font

FONT = "DejaVu Sans"  # matplotlib brings it along
LONGEST = 24  # characters of a name in a chart
HEXAGRAMS = [chr(code) for code in range(0x4DC0, 0x4E00)]  # wide letters of this font
NARROW, HEXAGRAM = 0.65, 0.9  # em: an ordinary letter, a hexagram


@dataclass(frozen=True)
class Drawn:
    """Names as matplotlib gets them.

    Attributes:
        texts: one for each name, in order.
        written: stand-in → the text that the page shows in its place.
    """

    texts: list[str]
    written: dict[str, str]


def drawn(names: Sequence[str]) -> Drawn:
    """Shortened names, with stand-ins for those that the font lacks."""
    short = [shortened(name) for name in names]
    texts = [text if drawable(text) else stand_in(number, text) for number, text in enumerate(short)]
    written = {text: name for text, name in zip(texts, short, strict=True) if text != name}
    return Drawn(texts, written)


def shortened(name: str, longest: int = LONGEST) -> str:
    """A name on one line, without control characters; if it is too long, without its middle."""
    half = longest // 2
    if len(name) > longest:
        name = f"{name[: longest - half]}…{name[1 - half :]}"
    line = " ".join(name.split()) or "–"
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in line)


def drawable(text: str) -> bool:
    """Whether matplotlib's font has every letter of a text, and the text is no stand-in."""
    return letters().issuperset(text) and not set(text) & set(HEXAGRAMS)


@cache
def letters() -> frozenset[str]:
    """The letters of matplotlib's font."""
    return frozenset(map(chr, get_font(findfont(FONT)).get_charmap()))


def stand_in(number: int, text: str) -> str:
    """Hexagrams about as wide as a browser draws a text; another text for every number."""
    digits = ""
    while number or not digits:
        digits = HEXAGRAMS[number % len(HEXAGRAMS)] + digits
        number //= len(HEXAGRAMS)
    return digits.rjust(round(sum(map(width, text)) / HEXAGRAM), HEXAGRAMS[0])


def width(letter: str) -> float:
    """How wide a browser draws a letter, in em."""
    if unicodedata.combining(letter):
        return 0.0
    return 1.0 if unicodedata.east_asian_width(letter) in "WF" else NARROW

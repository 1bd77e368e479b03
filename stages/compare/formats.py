"""Numbers and images as they appear in the report's HTML."""

import base64
import io
from collections.abc import Mapping

from markupsafe import Markup, escape
from PIL import Image


def marked(text: str, key: str, unit: str) -> Markup:
    """A figure of the summary as HTML, marked with its key."""
    return Markup('<data value="{}" data-key="{}">{}</data>{}').format(text, key, text, unit)


def figure(row: Mapping[str, float], name: str, key: str, sign: str = "") -> Markup:
    """A figure of a row of the summary in percent, with its interval if it has one; "" if the row lacks it.

    key: METHOD.BUDGET of the row.
    """
    if name not in row:
        return Markup()
    mean = marked(f"{100 * row[name]:{sign}.2f}", f"{key}.{name}", "")
    half = f"{name}_ci95"
    return mean + " ± " + marked(percent(row[half]), f"{key}.{half}", "") if half in row else mean


def percent(value: float, digits: int = 2) -> str:
    """A fraction in percent, without the percent sign."""
    return f"{100 * value:.{digits}f}"


def count(value: float) -> str:
    """A whole number with commas between thousands."""
    return f"{round(value):,}"


def counted(images: float) -> str:
    """A mean number of images: whole if it is one or large."""
    return f"{images:,.0f}" if images >= 10 or images == round(images) else f"{images:.1f}"


def image(picture: Image.Image, alt: str, width: int | None = None) -> Markup:
    """An image embedded in the page.

    Args:
        picture: the image.
        alt: the description for screen readers.
        width: on the page, in CSS pixels; None: that of the image.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    content = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}" width="{}">').format(
        content, escape(alt), width or picture.width
    )

"""The names that `encoder.name` may have: our own small networks, and timm's."""

import difflib
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

OWN = ("cnn", "residual", "vit")
TIMM = "timm/"  # before the name of one of timm's networks


@cache
def timm_names() -> tuple[str, ...]:
    """The names of timm's networks, sorted, read from its source; none if it is not installed.

    Importing timm takes seconds, and every stage validates this name.
    """
    package = importlib.util.find_spec("timm")  # which imports nothing
    names: set[str] = set()
    for folder in (package and package.submodule_search_locations) or ():
        for file in Path(folder, "models").glob("*.py"):
            names.update(re.findall(r"^@register_model\s+def (\w+)\(", file.read_text(), re.MULTILINE))
    return tuple(sorted(names))


def _network(name: object) -> object:
    if name in OWN:
        return name
    known = timm_names()
    if isinstance(name, str) and name.startswith(TIMM) and name.removeprefix(TIMM) in known:
        return name
    near = difflib.get_close_matches(str(name).removeprefix(TIMM), (*OWN, *known), n=3)
    hint = " or ".join(found if found in OWN else TIMM + found for found in near)
    raise ValueError(
        f": unknown name {name!r}{f' (did you mean {hint}?)' if near else ''}; allowed: {', '.join(OWN)}, or "
        f"{TIMM}NAME; `python -c 'import timm; print(timm.list_models())'` lists the {len(known)} names"
    )


NetworkName = Annotated[str, BeforeValidator(_network)]

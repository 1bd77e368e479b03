"""Random changes of a file: of its bytes, or of its structure as JSON, YAML, CSV, .npy or safetensors."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from ruamel.yaml import YAML

VALUES: tuple[Any, ...] = (
    None, [], {}, "", "x", True, -1, 0, 7.0, 99, 12345678, 10**30, 1e308, float("nan"), [[[]]],
    "\x1b[31m\r\x00",
)  # fmt: skip
CELLS = (
    "",
    "x",
    "-1",
    "99",
    "12345678",
    "1e308",
    "nan",
    "7.0",
    "=1+1",
    "\x1b[31m",
    "a\rb",
    "\0",
    "../x",
    "é",
)
Mutated = tuple[str, bytes]  # what was done, in words; the new content


def mutated(rng: Random, path: Path, others: list[Path]) -> Mutated:
    """Change the content of a file at random; `others` are files that it may be swapped with."""
    content = path.read_bytes()
    structure: dict[str, Callable[[Random, bytes], Mutated]] = {
        ".json": json_document, ".yaml": yaml_document, ".lock": yaml_document, ".csv": table,
        ".npy": pack, ".safetensors": weights,
    }  # fmt: skip
    if path.suffix in structure and rng.random() < 0.7:
        return structure[path.suffix](rng, content)
    return as_bytes(rng, content, [other for other in others if other.suffix == path.suffix])


def as_bytes(rng: Random, content: bytes, others: list[Path]) -> Mutated:
    """Flipped bits, a cut, an empty file, another file's content, noise."""
    way = rng.choice(("flip", "flip", "cut", "empty", "swap", "noise", "longer"))
    if way == "swap" and others:
        other = rng.choice(others)
        return f"swapped with {other.name}", other.read_bytes()
    if way == "empty" or not content:
        return "emptied", b""
    if way == "cut":
        length = rng.randrange(len(content))
        return f"cut to {length} bytes", content[:length]
    if way == "longer":
        return "made longer", content + rng.randbytes(rng.randint(1, 100))
    changed, start = bytearray(content), rng.randrange(len(content))
    if way == "noise":
        length = min(rng.randint(1, 64), len(content) - start)
        changed[start : start + length] = rng.randbytes(length)
        return f"{length} bytes of noise at {start}", bytes(changed)
    changed[start] ^= 1 << rng.randrange(8)
    return f"a bit flipped at {start}", bytes(changed)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Each place in a tree of dicts and lists: the container and the key or the index."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield node, key
        yield from places(value)


def changed_tree(rng: Random, tree: Any) -> tuple[str, Any]:
    """Replace, remove or repeat one node of a tree."""
    every = list(places(tree))
    if not every or rng.random() < 0.1:
        value = rng.choice(VALUES)
        return f"all replaced by {value!r}", value
    container, key = rng.choice(every)
    way = rng.choice(("replace", "replace", "replace", "remove", "rename", "double"))
    if way == "remove":
        del container[key]
        return f"{key!r} removed", tree
    if way == "rename" and isinstance(container, dict):
        container[f"{key}_"] = container.pop(key)
        return f"{key!r} renamed", tree
    if way == "double" and isinstance(container, list):
        container.insert(key, container[key])
        return f"item {key} doubled", tree
    value = rng.choice(VALUES)
    container[key] = value
    return f"{key!r} set to {value!r}", tree


def json_document(rng: Random, content: bytes) -> Mutated:
    """A changed tree of a JSON file."""
    what, tree = changed_tree(rng, json.loads(content))
    return what, json.dumps(tree, indent=1).encode()


def yaml_document(rng: Random, content: bytes) -> Mutated:
    """A changed tree of a YAML file."""
    yaml, file = YAML(typ="safe"), io.BytesIO()
    what, tree = changed_tree(rng, yaml.load(content))
    yaml.dump(tree, file)
    return what, file.getvalue()


def table(rng: Random, content: bytes) -> Mutated:
    """A changed cell, or rows or columns that are missing, doubled or in another order."""
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    way = rng.choice(
        ("cell", "cell", "cell", "row", "column", "double", "shuffle", "header", "field", "none")
    )
    if way == "row":
        del rows[row]
    elif way == "column":
        rows = [cells[:column] + cells[column + 1 :] for cells in rows]
    elif way == "double":
        rows.insert(row, rows[row])
    elif way == "shuffle":
        body = rows[1:]
        rng.shuffle(body)
        rows[1:] = body
    elif way == "header":
        row, rows[0][column] = 0, rng.choice(CELLS)
    elif way == "field":
        rows[row].append("x")
    elif way == "none":
        rows = rows[:1]
    elif column < len(rows[row]):
        rows[row][column] = rng.choice(CELLS)
        way = f"cell {rows[row][column]!r}"
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(rows)
    return f"table: {way}, row {row}, column {column}", file.getvalue().encode()


def pack(rng: Random, content: bytes) -> Mutated:
    """Changed pixels, another order, shape or type of an array, or a changed header."""
    array = np.load(io.BytesIO(content))
    way = rng.choice(("invert", "swap", "fewer", "shape", "fortran", "type", "header"))
    if way == "header":
        length = min(128, len(content))
        changed = bytearray(content)
        changed[rng.randrange(length)] ^= 1 << rng.randrange(8)
        return "a bit of the header flipped", bytes(changed)
    if way == "invert":
        array = 255 - array if array.dtype == np.uint8 else 1 - array
    elif way == "swap" and len(array) > 1:
        array = array[::-1].copy()
    elif way == "fewer":
        array = array[:-1]
    elif way == "shape":
        array = array.reshape(-1)
    elif way == "fortran":
        array = np.asfortranarray(array)
    elif way == "type":
        array = array.astype(rng.choice(("float64", "int8", "U3", "bool")))
    file = io.BytesIO()
    np.save(file, array)
    return f"array: {way}", file.getvalue()


def weights(rng: Random, content: bytes) -> Mutated:
    """A changed header of a safetensors file; the length before it fits."""
    length = int.from_bytes(content[:8], "little")
    what, tree = changed_tree(rng, json.loads(content[8 : 8 + length]))
    header = json.dumps(tree).encode()
    return f"header: {what}", len(header).to_bytes(8, "little") + header + content[8 + length :]

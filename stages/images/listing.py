"""Finds the image files in a folder, and says which files it passes over."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from stages.errors import has_control

# All formats of photographs and drawings that Pillow decodes by itself, as far as it was built with them; no
# containers of other data (PDF, HDF5, MPEG) and no vector formats, which run other programs.
KNOWN = (
    "PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "MPO", "PPM", "TGA", "ICO", "PCX", "PSD",
    "QOI", "SGI", "DIB", "DDS", "FITS", "XBM",
)  # fmt: skip
Image.init()
FORMATS = tuple(name for name in KNOWN if name in Image.OPEN)
SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)
NO_UTF8 = "has a name that is not valid UTF-8"
CONTROL = "has a control character in its name"  # terminals obey it, and a CSV table does not preserve all


@dataclass
class Listing:
    """What is in a folder and its subfolders.

    Attributes:
        files: the paths of the images relative to the folder, with `/`, in a fixed order.
        broken: why a file or a subfolder cannot be read, by its path.
        passed: the number of files that are no images by their names, by suffix.
        examples: one file for each suffix in `passed`.
        passed_folders: the folders of these files.
    """

    files: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    passed_folders: set[str] = field(default_factory=set)

    def pass_over(self, name: str) -> None:
        """Count a file that is no image by its name."""
        suffix = Path(name).suffix.lower() or "without a suffix"
        self.passed[suffix] += 1
        self.examples.setdefault(suffix, name)
        if folder := name.rpartition("/")[0]:
            self.passed_folders.add(folder)

    def passed_over(self) -> str | None:
        """How many files of which kinds are passed over; None if there are none."""
        if not self.passed:
            return None
        kinds = ", ".join(
            f"{count:,} {suffix} (such as {self.examples[suffix]})"
            for suffix, count in self.passed.most_common(10)
        )
        more = ", …" if len(self.passed) > 10 else ""
        return (
            f"{self.passed.total():,} files are passed over, because they are no images that can be read: "
            + (kinds + more)
        )


def list_images(folder: Path, tables: tuple[str, ...] = ()) -> Listing:
    """List the image files in a folder and its subfolders.

    Args:
        folder: where to look.
        tables: names of files in it that are read as tables, and so not passed over.

    Hidden files and folders are ignored: macOS writes `._x.png` next to `x.png`.
    """
    listing = Listing()

    def name_of(path: Path) -> str:
        name = path.relative_to(folder).as_posix()
        return name if is_utf8(path) else ascii(name)

    def unreadable(error: OSError) -> None:
        listing.broken[name_of(Path(error.filename))] = error.strerror or str(error)

    # NOTE: links are followed, because DVC may check out images as links to its cache.
    for parent, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if _is_cycle(Path(parent, name), folder.resolve())]:
            folders.remove(name)
            listing.broken[name_of(Path(parent, name))] = "is a link back into the same folder"
        for name in sorted(names):
            path = Path(parent, name)
            if name.startswith(".") or (name in tables and Path(parent) == folder):
                continue
            if path.suffix.lower() not in SUFFIXES:
                listing.pass_over(printable(name_of(path)))
            elif not is_utf8(path):
                listing.broken[name_of(path)] = NO_UTF8
            elif has_control(name_of(path)):
                listing.broken[printable(name_of(path))] = CONTROL
            elif os.path.isfile(path):  # Path.is_file() raises if the parent folder is not searchable
                listing.files.append(name_of(path))
            else:
                # NOTE: a link to a device is not broken.
                broken = os.path.islink(path) and not os.path.exists(path)
                listing.broken[name_of(path)] = "is a broken link" if broken else "is not a file"
    return listing


def is_utf8(path: Path) -> bool:
    """Whether a path can be encoded as UTF-8, and so printed and written to a table."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """A text as it is, or in quotes with escapes if it has control characters."""
    return ascii(text) if has_control(text) else text


def _is_cycle(path: Path, folder: Path) -> bool:
    """Whether a link to a folder points into `folder` or to a parent of the link.

    Following it would list the same images again, without end if it points to a parent.
    """
    if not os.path.islink(path):
        return False
    target = path.resolve()
    parents = (folder, path.parent.resolve())
    return target.is_relative_to(folder) or any(parent.is_relative_to(target) for parent in parents)

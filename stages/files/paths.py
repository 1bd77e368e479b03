"""Where the stages write: the folders and files that DVC tracks."""

from pathlib import Path

IMAGES = Path("data/prepared/images")  # pool.npy, validation.npy, pool.csv, validation.csv
LABELS = Path("data/prepared/labels")  # pool.csv, classes.json
TEST = Path("data/prepared/test")  # images.npy, index.csv: for `evaluate` alone
MODELS = Path("models")
ENCODERS, CLASSIFIERS = MODELS / "encoders", MODELS / "classifiers"
PREDICTIONS = Path("data/predictions")
METRICS = Path("metrics")

"""The folders that the stages write to and DVC tracks."""

from pathlib import Path

IMAGES = Path("data/prepared/images")  # pool.npy, validation.npy, pool.csv, validation.csv
LABELS = Path("data/prepared/labels")  # pool.csv, classes.json
TEST = Path("data/prepared/test")  # images.npy, index.csv; only `evaluate` reads it
MODELS = Path("models")
ENCODERS, CLASSIFIERS, DISTILLED = MODELS / "encoders", MODELS / "classifiers", MODELS / "distilled"
PREDICTIONS = Path("data/predictions")
METRICS = Path("metrics")
# What `compare` writes about all methods.
SUMMARY, DETAILS = METRICS / "summary.json", METRICS / "details.json"
LABEL_EFFICIENCY = METRICS / "label_efficiency.csv"
REPORT = METRICS / "report.html"

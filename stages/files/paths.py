"""The folders that the stages write to and DVC tracks."""

from pathlib import Path

IMAGES = Path("data/prepared/images")  # pool.npy, validation.npy, pool.csv, validation.csv
DECODING = "decoding.json"  # in IMAGES where they were image files: how these became pixels
LARGE_POOL = IMAGES / "pool_large.npy"  # the pool with more pixels, for views; where data.folder.detail > 1
LABELS = Path("data/prepared/labels")  # pool.csv, classes.json
TEST = Path("data/prepared/test")  # images.npy, index.csv; only `evaluate` reads it
MODELS = Path("models")
# A folder for each method.
ENCODERS, CLASSIFIERS, DISTILLED = MODELS / "encoders", MODELS / "classifiers", MODELS / "distilled"
RECIPES = MODELS / "recipes"  # a file for each method
USED_RECIPES = "recipes.json"  # beside a method's classifiers: the recipes that they have in the end
PREDICTIONS = Path("data/predictions")
BASELINES = Path("data/baselines")  # a folder for each simple baseline, as those in PREDICTIONS
PREDICTED_IMAGES = "images.csv"  # beside the predictions of a method: id, label and unit of each test image
METRICS = Path("metrics")
PREPARED = METRICS / "prepare.json"  # the record of what `prepare` writes into it
DATA, DATA_CLASSES = METRICS / "data.json", METRICS / "data_classes.csv"
# What `compare` writes about all methods.
SUMMARY, DETAILS = METRICS / "summary.json", METRICS / "details.json"
LABEL_EFFICIENCY = METRICS / "label_efficiency.csv"
COMPARED = METRICS / "compare.json"  # the record of these
REPORT = METRICS / "report.html"


def encoder_file(method: str, run: int) -> Path:
    """The encoder of a pretraining run of a method."""
    return ENCODERS / method / f"run{run}.safetensors"

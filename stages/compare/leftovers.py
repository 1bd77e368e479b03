"""Removes the metrics and predictions of methods that params.yaml no longer lists.

DVC cannot interpolate a list in `deps`, so the stage depends on whole folders. If the files of a dropped
method stayed there, `dvc status` would report a change in every clone that does not have them.
"""

import shutil
from collections.abc import Collection
from pathlib import Path

from stages.files.paths import PREDICTIONS
from stages.settings.load import PIPELINE, read
from stages.settings.values import available_methods

METHOD = "${item.method}"  # in the paths of dvc.yaml


def outputs(method: str) -> set[Path]:
    """What the stages write for a method and `compare` reads.

    Its metrics files, which are under `plots` in dvc.yaml, and the folder of its predictions.
    """
    stages = read(PIPELINE)["stages"].values()
    paths = [path for stage in stages for entry in stage.get("plots", []) for path in entry]
    paths += [str(PREDICTIONS / METHOD)]
    return {Path(path.replace(METHOD, method)) for path in paths if METHOD in path}


def remove_leftovers(listed: Collection[str]) -> list[str]:
    """Remove metrics and predictions of methods that are not listed; print one line that names the methods.

    Only files with the name of a stage's output are removed. Other files stay, and so do the files of a
    method that has no module in stages/pretrain/methods any more.

    Args:
        listed: the methods in params.yaml.

    Returns:
        The methods whose files were removed.
    """
    # NOTE: names of two methods can give the same path: `a_model` and `a` both give `evaluate/a_model.json`.
    needed = {path for method in listed for path in outputs(method)}
    removed = []
    for method in available_methods():
        leftovers = [path for path in outputs(method) - needed if path.exists()]
        if method not in listed and leftovers:
            for path in leftovers:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            removed.append(method)
    if removed:
        print(
            f"removed the metrics and predictions of {', '.join(removed)}: no longer in `methods` of "
            "params.yaml (git has the metrics if they were committed)",
            flush=True,
        )
    return removed

"""Removes the metrics and predictions of methods that params.yaml no longer lists.

DVC cannot interpolate a list in `deps`, so the stage depends on whole folders. If the files of a dropped
method stayed there, `dvc status` would report a change in every clone that does not have them.
"""

import shutil
from collections.abc import Collection
from glob import escape, glob
from pathlib import Path

from stages.files.paths import PREDICTIONS
from stages.settings.load import read
from stages.settings.pipeline import PIPELINE, listed, stage_names
from stages.settings.values import available_methods

METHOD = "${item.method}"  # in the paths of dvc.yaml


def outputs(method: str) -> set[Path]:
    """What the stages write for a method and `compare` reads.

    Its metrics files, which are under `plots` in dvc.yaml, and the folder of its predictions.
    """
    return {Path(pattern.replace(METHOD, method)) for pattern in _patterns()}


def _patterns() -> list[str]:
    """The paths of these outputs in dvc.yaml, in which METHOD stands for the method."""
    content = read(PIPELINE)
    plotted = [stage for stage in stage_names(content) if content["stages"][stage].get("plots") is not None]
    paths = [path for stage in plotted for path in listed(content, stage, "plots")]
    return [path for path in [*paths, str(PREDICTIONS / METHOD)] if METHOD in path]


def _complete() -> set[str]:
    """The names with which every output is there, also those of methods whose module was deleted."""

    def names(pattern: str) -> set[str]:
        before, _, after = pattern.partition(METHOD)
        paths = glob(f"{escape(before)}*{escape(after)}")
        return {path[len(before) : len(path) - len(after)] for path in paths}

    return set.intersection(*map(names, _patterns()))


def remove_leftovers(listed: Collection[str]) -> list[str]:
    """Remove metrics and predictions of methods that are not listed; print one line that names the methods.

    Only files with the name of a stage's output are removed. Of a method that has no module in
    stages/pretrain/methods any more, they are removed if all are there; a lone file may be the user's own.

    Args:
        listed: the methods in params.yaml.

    Returns:
        The methods whose files were removed.
    """
    # NOTE: names of two methods can give the same path: `a_model` and `a` both give `evaluate/a_model.json`.
    needed = {path for method in listed for path in outputs(method)}
    removed = []
    for method in sorted({*available_methods(), *_complete()}):
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

"""Removes the metrics of methods that params.yaml no longer lists.

DVC cannot interpolate a list in `deps`, so the stage depends on whole folders. If the files of a dropped
method stayed there, `dvc status` would report a change in every clone that does not have them.
"""

from collections.abc import Collection
from pathlib import Path

from stages.settings.load import PIPELINE, read
from stages.settings.values import available_methods

METHOD = "${item.method}"  # in the paths of dvc.yaml


def outputs(method: str) -> set[Path]:
    """The metrics files that the stages write for a method: those under `plots` in dvc.yaml."""
    entries = [entry for stage in read(PIPELINE)["stages"].values() for entry in stage.get("plots", [])]
    return {Path(path.replace(METHOD, method)) for entry in entries for path in entry if METHOD in path}


def remove_leftovers(listed: Collection[str]) -> list[str]:
    """Remove the metrics files of methods that are not listed, and print one line that names the methods.

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
        leftovers = [path for path in outputs(method) - needed if path.is_file()]
        if method not in listed and leftovers:
            for path in leftovers:
                path.unlink()
            removed.append(method)
    if removed:
        print(
            f"removed the metrics of {', '.join(removed)}: no longer in `methods` of params.yaml "
            "(git has them if they were committed)",
            flush=True,
        )
    return removed

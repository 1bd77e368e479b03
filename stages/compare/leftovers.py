"""Removes the metrics of methods that params.yaml no longer lists.

DVC cannot interpolate a list in `deps`, so the stage depends on whole folders. If the files of a dropped
method stayed there, `dvc status` would report a change in every clone that does not have them.
"""

from collections.abc import Collection
from pathlib import Path

from stages.files.paths import METRICS
from stages.settings.values import available_methods

# Every file that a stage writes for one method into the folders on which `compare` depends.
OUTPUTS = (
    "pretrain/{method}.json",
    "pretrain/{method}.csv",
    "pretrain/{method}_shown.png",
    "finetune/{method}.json",
    "evaluate/{method}.json",
    "evaluate/{method}_confusion.csv",
    "evaluate/{method}_reliability.csv",
    "evaluate/{method}_mistakes.csv",
    "evaluate/{method}_mistakes.png",
    "evaluate/{method}_map.csv",
    "evaluate/{method}_model.json",
    "timings/pretrain/{method}.json",
    "timings/finetune/{method}.json",
    "timings/evaluate/{method}.json",
)


def outputs(method: str) -> set[Path]:
    """The metrics files that the stages write for a method."""
    return {METRICS / name.format(method=method) for name in OUTPUTS}


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
            "(git has them if they were committed, and DVC's run cache restores them if listed again)",
            flush=True,
        )
    return removed

"""Two branches change the pipeline: how docs/share.md solves a conflict in dvc.lock."""

import shutil

import pytest

from tests.pipeline.conftest import Project
from tests.pipeline.test_kill import results

pytestmark = pytest.mark.full


def test_a_conflict_in_the_lock_is_solved_by_repro(project: Project) -> None:
    project.run("git", "checkout", "--quiet", "-b", "decay")
    project.set(finetune__recipe__simclr__weight_decay=0.25)
    project.repro()
    project.commit("less decay")
    project.run("git", "checkout", "--quiet", "main")
    project.run("dvc", "checkout")
    project.set(finetune__schedule__warmup=0.5)
    project.repro()
    project.commit("a longer warm-up")

    merge = project.run("git", "merge", "decay", check=False)
    assert "CONFLICT (content): Merge conflict in dvc.lock" in merge.stdout
    assert "params.yaml" not in project.run("git", "diff", "--name-only", "--diff-filter=U").stdout
    project.run("git", "checkout", "--ours", "dvc.lock", "metrics")
    ran = project.repro()
    assert ran == [
        "choose@simclr",
        "finetune@simclr",
        "distil@simclr",
        "evaluate@simclr",
        "compare",
    ]  # scratch has the same parameters as on main
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "merged")
    assert project.repro() == []
    assert project.run("git", "status", "--porcelain").stdout == ""
    merged = results(project)

    # The result is the same as if both changes had been made together.
    project.run("git", "checkout", "--quiet", "-b", "at-once", "main~1")
    project.run("dvc", "checkout")
    project.set(finetune__recipe__simclr__weight_decay=0.25, finetune__schedule__warmup=0.5)
    shutil.rmtree(project.path / "models" / "checkpoints")  # otherwise nothing would be trained again
    project.repro("--no-run-cache")
    assert results(project) == merged

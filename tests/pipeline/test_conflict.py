"""Two branches change the pipeline: the way out of a conflict in dvc.lock that the README names."""

import shutil

import pytest

from tests.pipeline.conftest import Project
from tests.pipeline.test_kill import results

pytestmark = pytest.mark.full


def test_a_conflict_in_the_lock_is_solved_by_repro(project: Project) -> None:
    project.run("git", "checkout", "--quiet", "-b", "theirs")
    project.set(finetune__recipe__simclr__weight_decay=0.25)
    project.repro()
    project.commit("less decay")
    project.run("git", "checkout", "--quiet", "main")
    project.run("dvc", "checkout")
    project.set(finetune__schedule__warmup=0.5)
    project.repro()
    project.commit("a longer warm-up")

    merge = project.run("git", "merge", "theirs", check=False)
    assert "CONFLICT (content): Merge conflict in dvc.lock" in merge.stdout
    assert "params.yaml" not in project.run("git", "diff", "--name-only", "--diff-filter=U").stdout
    project.run("git", "checkout", "--ours", "dvc.lock", "metrics")
    ran = project.repro()
    assert ran == ["finetune@simclr", "evaluate@simclr", "compare"]  # scratch is as it is on main
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "merged")
    assert project.repro() == []
    assert project.run("git", "status", "--porcelain").stdout == ""
    merged = results(project)

    # The same as if both changes had been made at once.
    project.run("git", "checkout", "--quiet", "-b", "at-once", "main~1")
    project.run("dvc", "checkout")
    project.set(finetune__recipe__simclr__weight_decay=0.25, finetune__schedule__warmup=0.5)
    shutil.rmtree(project.path / "models" / "checkpoints")  # or nothing would be trained again
    project.repro("--no-run-cache")
    assert results(project) == merged

"""From a folder that nobody knows to a report: `init`, then the pipeline."""

from pathlib import Path

import pytest

from stages.settings import load
from tests.image_files import write_shapes
from tests.pipeline.conftest import Project, change

SHORT = {
    "pretrain.runs": 1, "pretrain.simclr.images": 1, "pretrain.simclr.steps": 3,
    "finetune.draws": 2, "encoder.width": 8, "runtime.threads.pretrain": 1,
}  # fmt: skip


@pytest.mark.full
def test_the_parameters_that_init_writes_run(baseline: Project, tmp_path: Path) -> None:
    project = baseline.copy(tmp_path / "project")
    write_shapes(project.path / "data/images", each=60, unlabelled=100)
    (project.path / "params.yaml").write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())
    output = project.stage("stages.tools.init", "data/images").stdout
    assert "params.yaml is written; next: make views, make repro" in output
    written = load.read(project.path / "params.yaml")
    assert written["data"]["path"] == "data/images"
    assert written["finetune"]["budgets"] == [50, "all"]
    short = SHORT | {"finetune.schedule.steps": 4, "finetune.schedule.epochs": 1, "distil.steps": 3}
    change(project.path / "params.yaml", short)
    ran = project.repro()
    assert ran[0] == "prepare"
    assert ran[-1] == "compare"
    assert (project.path / "metrics/report.html").is_file()

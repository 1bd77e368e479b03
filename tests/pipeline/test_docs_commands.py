"""The cheap commands of README and docs/, taken from the pages as they stand, run in a reproduced project."""

import re

import pytest

from tests.conftest import ROOT
from tests.pipeline.conftest import Project

# A page's command, and what it prints. The others take minutes, or need a network, an editor or a remote.
CHEAP = {
    "python -m stages.settings": "",
    "python -m stages.tools.lock_file && dvc repro": "Data and pipelines are up to date.",
    "python -m stages.compare --show": "full report: metrics/report.html",
    "dvc metrics diff main --targets metrics/summary.json": "",
    "sed -i 's/^methods: .*/methods: [scratch, simclr, vicreg]/' params.yaml": "",
    "python -m benchmarks.quality --statements": "is not below its own linear probe",
}


def commands() -> list[str]:
    """All lines of the pages' shell blocks, without comments."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [
        block for page in pages for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    return [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("command", CHEAP)
def test_a_command_of_the_docs_does_what_it_says(command: str, project: Project) -> None:
    for part in [command] if command in commands() else command.split(" && "):
        assert part in commands()
    assert CHEAP[command] in project.run("sh", "-c", command).stdout

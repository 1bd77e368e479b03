"""What all commands for people have in common: `--help` names the command as people type it."""

import importlib

import pytest

COMMANDS = ("cache", "dag", "experiment", "init", "predict", "suggest", "tune", "views")


@pytest.mark.usefixtures("in_copy")
@pytest.mark.parametrize("name", COMMANDS)
def test_help_starts_with_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"stages.tools.{name}")
    with pytest.raises(SystemExit) as caught:
        module.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m stages.tools.{name} ")
    assert f"python -m stages.tools.{name} " in module.__doc__

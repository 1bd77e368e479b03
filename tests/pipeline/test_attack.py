"""The attack itself: it accepts what is refused, healed or equal, and reports what is not."""

import json
from pathlib import Path
from random import Random

import pytest

from tests.attack import __main__ as command
from tests.attack import kills, mutations, rot
from tests.attack.victim import Ended, Victim


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return Victim.made(tmp_path_factory.mktemp("attack"))


@pytest.mark.full
def test_a_refused_file_heals_and_a_killed_run_recovers(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rot, "GROUPS", ("models/encoders/simclr/*",))
    monkeypatch.setattr(command, "KILL_EVERY", 3)
    assert command.attack(victim, 1, range(3), minutes=10) == 0
    printed = capsys.readouterr().out
    assert "2 of the kind mutation:" in printed
    assert "1 of the kind kill:" in printed


@pytest.mark.full
def test_a_traceback_and_a_wrong_result_are_reported_with_their_case(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rot, "GROUPS", ("models/recipes/*",))
    monkeypatch.setattr(rot, "readers", lambda *_: ["python -m stages.planted"])
    planted = victim.unharmed.path / "stages/planted.py"
    planted.write_text("raise ValueError('planted')\n")
    seed = next(seed for seed in range(99) if drawn_direct(victim, seed))
    assert command.attack(victim, seed, range(1), minutes=10) == 1
    assert f"--seed {seed} --only 0: models/recipes/" in (printed := capsys.readouterr().out)
    assert "bad: traceback: ValueError: planted" in printed
    planted.write_text("open('models/encoders/simclr/run0.safetensors', 'w').close()\n")
    assert command.attack(victim, seed, range(1), minutes=10) == 1
    assert "bad: wrong result: models/encoders/simclr/run0.safetensors" in capsys.readouterr().out


def drawn_direct(victim: Victim, seed: int) -> bool:
    """Whether case 0 of a seed runs a reader rather than `dvc repro`, and changes the file."""
    rng = Random(f"{seed} 0")  # noqa: S311 (as the attack draws)
    group = rot.files(victim, rng.choice(rot.GROUPS))
    path = victim.unharmed.path / rng.choice(group)
    _, content = mutations.mutated(rng, path, [victim.unharmed.path / other for other in group])
    return content != path.read_bytes() and rng.random() < rot.DIRECT


@pytest.mark.parametrize(
    ("status", "output", "problem"),
    [
        (2, "error: metrics/a.json: is empty", None),
        (255, "'./dvc.yaml' is invalid.\n\nDid not find expected key, in line 315, column 2", None),
        (255, "ERROR: './dvc.lock' validation failed.", None),
        (255, "something is invalid", "no words"),
        (0, "done", None),
        (1, "Traceback (most recent call last)\n  in x\nKeyError: 'a'\n", "traceback: KeyError: 'a'"),
        (2, "", "no words"),
        (2, "error: a\nerror: \x1b[31m", "raw output"),
        (2, "error: " + "a" * 9999, "long output"),
        (-9, "", "crash: by SIGKILL"),
        (None, "", "no end"),
    ],
)
def test_an_end_is_accepted_or_has_a_problem(status: int | None, output: str, problem: str | None) -> None:
    assert (Ended(status, output).problem() or "")[: len(problem or "")] == (problem or "")
    assert (Ended(status, output).problem() is None) == (problem is None)


FRAME = "<frozen abc>"
STARTING = f'Traceback (most recent call last):\n  File "{FRAME}", line 1, in register\nKeyboardInterrupt\n'
OF_DVC = STARTING.replace(FRAME, "/x/bin/dvc")
OF_LIBRARY = STARTING.replace(FRAME, "/x/site-packages/torch.py")


@pytest.mark.parametrize(
    ("output", "outside"),
    [
        (STARTING, True),
        (OF_DVC, True),
        (STARTING.replace(FRAME, "/x/site-packages/dvc/cli.py"), True),
        (OF_LIBRARY, False),
        (STARTING.replace(FRAME, "/x/stages/a.py"), False),
        (OF_DVC + OF_LIBRARY, False),
        (STARTING.replace("KeyboardInterrupt", "KeyError"), False),
    ],
)
def test_the_tracebacks_of_python_and_dvc_are_told_from_ours(output: str, outside: bool) -> None:
    assert Ended(None, output).outside_the_project() == outside
    assert (Ended(None, output).problem() or "").startswith("no end" if outside else "traceback")


def test_mutations_change_the_structure_and_the_bytes_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"a": [1, 2], "b": {"c": 0.5}}))
    random = [Random(seed) for seed in range(3000)]  # noqa: S311 (chosen, not secret)
    every = {mutations.mutated(rng, path, [path])[1] for rng in random}
    assert {b"", b"{}", b"[]", b"null"} <= every
    assert len(every) > 100
    assert path.read_text() == json.dumps({"a": [1, 2], "b": {"c": 0.5}})


def test_an_empty_lock_is_what_the_recovery_mends() -> None:
    for how in ("validation failed", "is invalid"):
        assert kills.empty_lock(Ended(255, f"ERROR: './dvc.lock' {how}.\n"))
        assert not kills.empty_lock(Ended(255, f"ERROR: './dvc.yaml' {how}.\n"))
    assert not kills.empty_lock(Ended(255, "ERROR: failed to reproduce 'prepare'\n"))

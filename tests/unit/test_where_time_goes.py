"""`benchmarks.where_time_goes`: the stopwatch, the rows and the table, with stand-ins for DVC and stages."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import stopwatch, where_time_goes
from benchmarks.hashing import hashing_seconds, read_files
from benchmarks.where_time_goes import REPRO, Log, Run, breakdown, import_seconds, measured, parts
from stages.errors import InputError
from stages.files.json_files import write_json
from tests.conftest import ROOT

BURN = """
import time
def burn(seconds):
    stop = time.process_time() + seconds
    while time.process_time() < stop:
        pass
"""
# Nobody waits for the fork server: it ends, with its workers, only after its parent.
FORK_SERVER = (
    BURN
    + """
import multiprocessing, os
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    workers = [context.Process(target=burn, args=(0.3,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
"""
)
ORPHAN = BURN + "import os\nif os.fork() == 0:\n    os.setsid()\n    burn(0.3)\n"
REAL_TIME_PASSES = "import time\ntime.sleep(0.2)\n"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.chdir(tmp_path)
    return Log(dict(os.environ))


def script(content: str) -> str:
    Path("script.py").write_text(content)
    return "script.py"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")
@pytest.mark.parametrize(("content", "burnt"), [(FORK_SERVER, 0.6), (ORPHAN, 0.3)])
def test_the_cpu_of_processes_that_the_command_does_not_wait_for_counts(
    log: Log, content: str, burnt: float
) -> None:
    [run] = log.run(sys.executable, script(content))
    assert run.cpu >= burnt


def test_the_wall_time_ends_with_the_command_and_not_with_what_it_leaves_behind(log: Log) -> None:
    started = time.perf_counter()
    [run] = log.run("sh", "-c", "(while kill -0 $$; do sleep 0.05; done; sleep 0.5) 2>/dev/null &")
    assert time.perf_counter() - started - run.wall >= 0.5


def test_a_command_that_waits_takes_wall_time_and_no_cpu(log: Log) -> None:
    [run] = log.run(sys.executable, "-IS", script(REAL_TIME_PASSES))
    assert run.wall >= 0.2 > run.cpu


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -TERM $$", 128 + 15)])
def test_the_stopwatch_passes_the_exit_status_on(tmp_path: Path, command: str, status: int) -> None:
    python = [sys.executable, "-IS", stopwatch.__file__, str(tmp_path / "log")]
    assert subprocess.run([*python, "sh", "-c", command], check=False).returncode == status
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_a_command_comes_after_the_calls_of_python_that_it_made(log: Log) -> None:
    log.run("sh", "-c", "true")
    inner, outer = log.run("sh", "-c", f"python -IS {script(REAL_TIME_PASSES)} 'a b'")
    assert inner.command == [sys.executable, "-IS", "script.py", "a b"]
    assert outer.command[:2] == ["sh", "-c"]
    assert outer.wall >= inner.wall >= 0.2
    assert outer.cpu >= inner.cpu


def test_a_command_that_fails_is_an_error(log: Log) -> None:
    with pytest.raises(InputError, match=r"sh -c 'exit 3' failed"):
        log.run("sh", "-c", "exit 3")


def test_an_interrupted_measurement_leaves_no_process_behind(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait, beats = subprocess.Popen.wait, Path("beats")

    def interrupted(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        monkeypatch.setattr(subprocess.Popen, "wait", wait)
        while not beats.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.run("sh", "-c", "for beat in $(seq 100); do echo >> beats; sleep 0.05; done")
    before = beats.read_text()
    time.sleep(0.4)
    assert beats.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["-m", "stages.prepare"], "prepare"),
        (["-m", "stages.finetune", "simclr"], "finetune@simclr"),
        (["-m", "stages.compare", "--show"], "compare --show"),
    ],
)
def test_stages_have_the_names_that_dvc_gives_them(arguments: list[str], name: str) -> None:
    assert Run(["python", *arguments], 1.0, 1.0).name == name


def test_the_table_adds_up() -> None:
    prepare = Run(["python", "-m", "stages.prepare"], wall=10.0, cpu=5.0)
    finetune = Run(["python", "-m", "stages.finetune", "simclr"], wall=100.0, cpu=150.0)
    known = {"import_seconds": 4.0, "work_seconds": 80.0, "propagation_seconds": 12.0, "hashing_seconds": 0.5}
    total = Run(["make", "repro"], wall=115.0, cpu=158.0)
    table = breakdown([(prepare, {"import_seconds": 3.0}), (finetune, known)], total).set_index("stage")
    assert list(table.index) == ["prepare", "finetune@simclr", "DVC and make", "total"]
    assert list(table["wall_seconds"]) == [10, 100, 5, 115]
    assert list(table["cpu_seconds"]) == [5, 150, 3, 158]
    assert list(table["cores_busy"])[:3] == [0.5, 1.5, 0.6]
    assert list(table["rest_seconds"]) == [7, 4, 5, 16]
    assert table["work_seconds"].isna()["prepare"]
    assert table["hashing_seconds"]["total"] == 0.5  # a part of the rest
    of_wall = ["import_seconds", "work_seconds", "propagation_seconds", "monitoring_seconds", "rest_seconds"]
    assert (table[of_wall].sum(axis=1) == table["wall_seconds"]).all()
    columns = ["wall_seconds", "cpu_seconds", *of_wall]
    assert (table[columns].iloc[:-1].sum() == table[columns].iloc[-1]).all()


def test_the_parts_are_those_that_the_stage_has_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(where_time_goes, "import_seconds", lambda module: len(module))
    write_json(Path("metrics/timings/finetune/simclr.json"), {"seconds": 8.5, "propagation_seconds": 1.5})
    finetune = Run(["python", "-m", "stages.finetune", "simclr"], 20.0, 30.0)
    assert parts(finetune) == {"import_seconds": 15, "work_seconds": 8.5, "propagation_seconds": 1.5}
    assert parts(Run(["python", "-m", "stages.prepare"], 20.0, 30.0)) == {"import_seconds": 14}
    assert parts(Run(["python", "-c", "pass"], 20.0, 30.0)) == {}


def test_what_a_stage_reads_of_other_stages_is_hashed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/raw/a.png", "data/prepared/images/a.npy", "models/a.json", "stages/a.py"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("content")
    assert hashing_seconds("evaluate@simclr") is None
    deps = [{"path": path} for path in ("stages", "data/raw", "data/prepared/images", "models/a.json")]
    write_json(Path("dvc.lock"), {"stages": {"evaluate@simclr": {"deps": deps}, "compare": {"outs": []}}})
    assert read_files("evaluate@simclr") == [Path("data/prepared/images/a.npy"), Path("models/a.json")]
    assert (hashing_seconds("evaluate@simclr") or 0) > 0
    assert hashing_seconds("compare") is None


def test_imports_are_measured_without_running_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slow").mkdir()
    content = f"{REAL_TIME_PASSES}if __name__ == '__main__':\n    raise SystemExit(1)\n"
    Path("slow/__main__.py").write_text(content)
    assert 0.2 <= import_seconds("slow") < 10


def test_make_repro_without_its_setup_makes_no_environment(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    command = [REPRO[0], "--dry-run", *REPRO[1:]]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "dvc repro" in printed
    assert "pip install" not in printed


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A project whose `dvc repro` runs a stage if there is no file `done`; returns the environment for it."""
    monkeypatch.chdir(tmp_path)
    Path("Makefile").write_text("repro:\n\tpython -m stages.settings\n\tdvc repro\n")
    for name in ("settings", "finetune"):
        Path("stages", name).mkdir(parents=True)
        Path("stages", name, "__main__.py").touch()
    write_json(Path("metrics/timings/finetune/simclr.json"), {"seconds": 0.0})
    Path("bin").mkdir()
    dvc = Path("bin/dvc")
    dvc.write_text("#!/bin/sh\n[ -e done ] || python -m stages.finetune simclr\ntouch done\n")
    dvc.chmod(0o755)
    return os.environ | {"PATH": f"{dvc.parent.absolute()}{os.pathsep}{os.environ['PATH']}"}


def test_a_run_has_a_row_for_each_stage_for_dvc_and_for_a_repro_with_nothing_to_do(
    stand_in: dict[str, str],
) -> None:
    table = measured(stand_in).set_index("stage")
    assert list(table.index) == ["settings", "finetune@simclr", "DVC and make", "total", "no-op dvc repro"]
    assert table.loc["finetune@simclr", "work_seconds"] == 0
    wall = table["wall_seconds"]
    assert wall["total"] == pytest.approx(wall.iloc[:3].sum(), abs=0.03)  # each is rounded
    assert wall["no-op dvc repro"] < wall["total"]


def test_a_repro_with_nothing_to_do_that_runs_a_stage_is_an_error(stand_in: dict[str, str]) -> None:
    dvc = Path("bin/dvc")
    dvc.write_text(dvc.read_text().replace("touch done", "true"))
    with pytest.raises(InputError, match="finetune@simclr: ran again"):
        measured(stand_in)


def test_the_rows_of_other_machines_stay(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    first = pd.DataFrame(
        {"stage": ["a", "total"], "wall_seconds": [1.5, 2.5], "machine": "slow (avx2); 2026"}
    )
    assert where_time_goes.beside_other_machines(file, first) is first
    first.to_csv(file, index=False)
    second = first.assign(wall_seconds=[0.5, 0.7], machine="fast (amx); 2026")
    both = where_time_goes.beside_other_machines(file, second)
    assert both["wall_seconds"].tolist() == [1.5, 2.5, 0.5, 0.7]
    both.to_csv(file, index=False)
    anew = where_time_goes.beside_other_machines(file, first.assign(machine="slow (avx2); 2027"))
    assert anew["machine"].tolist() == ["fast (amx); 2026"] * 2 + ["slow (avx2); 2027"] * 2

"""One case of the attack: a file is mutated, and one of its readers runs."""

import os
import shutil
from pathlib import Path
from random import Random

from tests.attack.mutations import mutated
from tests.attack.victim import RECOVERY, SHOW, Victim

INPUTS = ("params.yaml", "dvc.yaml", "data/images/")  # a person may change these: another result is right
GROUPS = (  # each is as likely as the others, however many files it has
    "params.yaml", "dvc.yaml", "dvc.lock", ".dvc/tmp/rwlock", "data/images/labels.csv", "data/images/**/*",
    "data/prepared/**/*", "data/predictions/**/*", "data/baselines/**/*", "data/cache/**/*",
    "models/checkpoints/**/*", "models/encoders/**/*", "models/classifiers/**/*",
    "models/distilled/**/*", "models/recipes/*", "metrics/**/*.json", "metrics/**/*.csv", "metrics/**/*.png",
)  # fmt: skip
DIRECT = 0.75  # of the mutations; `dvc repro` follows the others
OBEYED = 0.3  # of the refusals of a stage or tool that was started directly: what they say is done
PREDICT = "python -m stages.tools.predict data/images/circle"
SUGGEST = "python -m stages.tools.suggest --count 3"
TOOLS = {  # the start of a path: the tools that read it
    "params.yaml": ("python -m stages.settings", PREDICT, SUGGEST, SHOW),
    "data/images/circle/": (PREDICT,),
    "data/prepared/": (SUGGEST,),
    "models/encoders/": (SUGGEST,),
    "models/classifiers/": (PREDICT,),
    "models/distilled/": (PREDICT,),
    "metrics/evaluate/": (PREDICT,),
    "metrics/summary.json": (SHOW, PREDICT),
    "metrics/details.json": (SHOW,),
    "metrics/data.json": (SHOW, PREDICT, SUGGEST),
    "metrics/data_classes.csv": (SHOW,),
    "metrics/prepare.json": (SHOW,),
    "metrics/pretrain/": (SHOW, SUGGEST),
    "metrics/compare.json": (SHOW, PREDICT),
    "metrics/label_efficiency.csv": (SHOW,),
}


def files(victim: Victim, pattern: str) -> list[Path]:
    """The files of a group, relative to the project, in order."""
    root = victim.unharmed.path
    return sorted(path.relative_to(root) for path in root.glob(pattern) if path.is_file())


def readers(victim: Victim, path: str) -> list[str]:
    """The commands of all stages and tools that read a file."""
    commands = [tool for start, tools in TOOLS.items() if path.startswith(start) for tool in tools]
    if path in ("params.yaml", "dvc.yaml"):
        commands += [stage["cmd"] for stage in victim.stages.values()]
    if path.startswith("models/checkpoints/"):
        stage, method = path.split("/")[2:4]
        commands.append(f"python -m stages.{stage} {method}")
    if path.startswith("data/cache/"):
        commands.append("python -m stages.prepare")
    for stage in victim.stages.values():
        if any(f"{path}/".startswith(f"{dep['path']}/") for dep in stage["deps"]):
            commands.append(stage["cmd"])
    return commands


def attack(victim: Victim, rng: Random) -> tuple[str, str]:
    """Mutate a file and run a reader; the outcome, `bad: …` if it is not accepted, and what was done."""
    victim.restore()
    group = files(victim, rng.choice(GROUPS))
    if not group:
        return "no such file", ""
    path = rng.choice(group)
    name, place = path.as_posix(), victim.work.path / path
    what, content = mutated(rng, place, [victim.work.path / other for other in group])
    commands = readers(victim, name)
    direct = bool(commands) and rng.random() < DIRECT
    command = rng.choice(commands) if direct else "dvc repro"
    before, stat = place.read_bytes(), place.stat()
    if content == before:
        return "no change", ""
    # In place, as a disk rots, and half of them with the time that the file had.
    place.write_bytes(content)
    if rng.random() < 0.5:
        os.utime(place, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if name.startswith("models/checkpoints/"):  # so that the reader needs the checkpoint
        shutil.rmtree(victim.work.path / "models" / name.split("/")[2], ignore_errors=True)
    done = f"{name}: {what}; {command}"
    if name == "dvc.lock":
        ended = victim.run(RECOVERY[0])
        if ended.status == 0 and not ended.problem():
            ended = victim.run("dvc repro")
    else:
        ended = victim.run(command)
    if not direct and ended.status == 0 and not name.startswith(INPUTS) and victim.differences() == [name]:
        # DVC goes by size and time, and saw nothing. So whatever reads the file must see it.
        if not commands:
            return "unseen, read by nothing", done
        command, direct = rng.choice(commands), True
        done = f"{done}, which saw nothing; {command}"
        ended = victim.run(command)
    if ended.status is None and name == "params.yaml":
        return "another input, still at work", done  # such as more steps
    if problem := ended.problem():
        return f"bad: {problem}", done
    own_change, is_input = name if direct else "", name.startswith(INPUTS)
    if command == PREDICT and is_input and ended.status == 1:  # its table has the images that can be read
        return "another input", done
    if ended.status == 0:
        if is_input:
            return "another input", done
        if different := victim.differences(but=own_change):
            return f"bad: wrong result: {', '.join(different[:4])}", done
        if command == SHOW and ended.output != victim.shown:
            return "bad: wrong result: other figures are shown", done
        return ("equal bytes" if direct else "healed"), done
    refused = f"{done}: {ended.refusal()}"
    if direct:
        different = [] if name.startswith("models/checkpoints/") else victim.differences(but=name)
        if different:
            return f"bad: half-written: {', '.join(different[:4])}", done
        if is_input or rng.random() > OBEYED:
            return "refused", refused
        problem = victim.obey(ended.remedy())
        return (f"bad: its remedy: {problem}", refused) if problem else ("refused, remedy heals", refused)
    if is_input:
        place.write_bytes(before)
    problem = victim.recover()
    return (f"bad: after a refusal: {problem}", refused) if problem else ("refused, then healed", refused)

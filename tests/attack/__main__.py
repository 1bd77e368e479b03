"""Run the attack; the docstring of the package says what it does."""

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.attack import kills, rot
from tests.attack.victim import Victim

KILL_EVERY = 6  # case: about as much time for kills as for mutations
MEMORY = 12 << 30  # bytes of addresses that a command may take; torch alone takes some GB


def case(victim: Victim, seed: int, number: int, lasted: dict[str, float]) -> tuple[str, str, str]:
    """Run one case: its kind, its outcome, what was done. All random choices follow from the numbers."""
    rng = Random(f"{seed} {number}")  # noqa: S311 (chosen, not secret)
    if number % KILL_EVERY == KILL_EVERY - 1:
        return "kill", *kills.attack(victim, rng, lasted)
    return "mutation", *rot.attack(victim, rng)


def attack(victim: Victim, seed: int, numbers: Sequence[int], minutes: float) -> int:
    """Run cases until the time is over; print each bad one, and the counts. The number of bad ones."""
    began = time.monotonic()
    lasted: dict[str, float] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for number in numbers:
        if time.monotonic() - began > 60 * minutes:
            break
        kind, outcome, done = case(victim, seed, number, lasted)
        if not done:
            continue
        counts[kind, ":".join(outcome.split(":")[:2]) if outcome.startswith("bad: ") else outcome] += 1
        if outcome.startswith("bad: "):
            print(f"--seed {seed} --only {number}: {done}\n    {outcome}", flush=True)
        elif len(numbers) == 1:
            print(f"{done}\n    {outcome}")
    for kind in ("mutation", "kill"):
        print(f"{sum(count for (of, _), count in counts.items() if of == kind)} of the kind {kind}:")
        for (of, outcome), count in sorted(counts.items()):
            if of == kind:
                print(f"    {count:5} {outcome}")
    return sum(count for (_, outcome), count in counts.items() if outcome.startswith("bad: "))


def main() -> int:
    """The exit status: 1 if a case was not refused, healed or equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description="Attack a small project.")
    parser.add_argument("--minutes", type=float, default=10, help="for all cases, once the project is made")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices")
    parser.add_argument("--only", type=int, metavar="CASE", help="run this case alone")
    parser.add_argument("--cases", type=int, default=1_000_000, help="at most so many")
    parser.add_argument("--folder", type=Path, help="for the projects (default: a temporary one)")
    options = parser.parse_args()
    numbers = range(options.cases) if options.only is None else range(options.only, options.only + 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="attack-", dir=options.folder) as folder:
        victim = Victim.made(Path(folder))
        print(f"the project: {len(victim.stages)} stages, {len(victim.expected)} outputs", flush=True)
        bad = attack(victim, options.seed, numbers, options.minutes)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

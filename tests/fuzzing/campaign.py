"""Cases shared out to a few processes, each of which may die of one."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from tests.fuzzing.worker import Mode, Outcome

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2


def run(made: Path, work: Path, seed: int, cases: Iterable[int], mode: Mode = "weighted") -> list[Outcome]:
    """What came of the cases of a seed, in their order.

    Args:
        made: What :func:`tests.fuzzing.artefacts.make_all` made.
        work: A folder to work in.
        seed: What is done to which file follows from it and a case's number alone.
        cases: Numbers.
        mode: See :data:`tests.fuzzing.worker.Mode`.
    """
    shares = [list(cases)[place::PROCESSES] for place in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        found = pool.map(lambda place: _run(made, work / str(place), seed, shares[place], mode), range(PROCESSES))
        return sorted(chain.from_iterable(found), key=lambda outcome: outcome.case)


def _run(made: Path, work: Path, seed: int, cases: list[int], mode: Mode) -> list[Outcome]:
    found: list[Outcome] = []
    work.mkdir(parents=True, exist_ok=True)
    while cases:
        command = [sys.executable, "-m", "tests.fuzzing.worker", str(made), str(work), str(seed), json.dumps(cases)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [*command, mode],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=1800,
            stdin=subprocess.DEVNULL,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        own = [Outcome(**line) for line in lines if "begun" not in line]
        found += own
        begun = [line["begun"] for line in lines if "begun" in line]
        if done.returncode == 0 and len(own) == len(cases):
            break
        if not begun:
            raise RuntimeError(done.stderr[-3000:])
        # It ended in the middle of one.
        text = f"the process ended with {done.returncode}: {done.stderr[-3000:]}"
        found.append(Outcome(begun[-1], "?", "?", "failed", text))
        cases = cases[cases.index(begun[-1]) + 1 :]
    return found


def counts(found: Iterable[Outcome]) -> str:
    """How many cases of each kind of file were read, refused or failed."""
    table = Counter((outcome.artefact.partition("/")[0], outcome.outcome) for outcome in found)
    kinds = sorted({kind for kind, _ in table})
    columns = ("read", "refused", "failed")
    lines = [f"{kind:20}" + "".join(f"{table[kind, column]:9}" for column in columns) for kind in kinds]
    totals = "".join(f"{sum(table[kind, column] for kind in kinds):9}" for column in columns)
    return "\n".join([f"{'':20}" + "".join(f"{column:>9}" for column in columns), *lines, f"{'all':20}{totals}"])

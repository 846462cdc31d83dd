"""A process that reads changed files one after the other, and says of each what came of it."""

import contextlib
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Literal, cast

from poison_and_defend.core.errors import InputError
from tests.fuzzing.artefacts import Artefact, catalogue
from tests.fuzzing.mutations import SPECIALS, choose

Mode = Literal["weighted", "each", "places"]
"""Files by their weights; one after the other; or one after the other with everything else than a file in their place."""

CPU_SECONDS, SECONDS = 10.0, 45.0
MEMORY = 1 << 30


class Hang(BaseException):
    """No Exception, which some reader would take for a damaged file."""


@dataclass(frozen=True)
class Outcome:
    """What came of one case: ``read``, ``refused`` in one sentence, or ``failed``."""

    case: int
    artefact: str
    mutation: str
    outcome: str
    text: str = ""


def draw(artefacts: list[Artefact], case: int, rng: random.Random, mode: Mode) -> tuple[Artefact, str | None]:
    """The artefact of a case, and what takes its place if that is not drawn."""
    if mode == "places":
        return artefacts[case // len(SPECIALS) % len(artefacts)], SPECIALS[case % len(SPECIALS)]
    if mode == "each":
        return artefacts[case % len(artefacts)], None
    return rng.choices(artefacts, [artefact.weight for artefact in artefacts])[0], None


def run_case(made: Path, scratch: Path, artefacts: list[Artefact], seed: int, case: int, mode: Mode) -> Outcome:
    """Copy, change, read."""
    rng = random.Random(f"{seed} {case}")
    artefact, special = draw(artefacts, case, rng, mode)
    folder, sentinel = scratch / "it", scratch / "ran"
    shutil.rmtree(folder, ignore_errors=True)
    # Links as they are; times too, since caches go by them.
    shutil.copytree(made / artefact.kind, folder, symlinks=True)
    path = folder / artefact.file
    name, content = (special, None) if special else choose(path.name, path.read_bytes(), rng, sentinel)
    reseal = artefact.reseal if rng.random() < 0.7 else None
    put(path, name, content)
    mutation = name
    if content is not None and reseal is not None:
        reseal(folder)
        mutation += ", resealed"
    before, failure = _reset_peak(), ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                artefact.read(folder)
                outcome, text = "read", ""
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
    except InputError as error:
        outcome, text = "refused", str(error)
        if "\n" in text or not text.isprintable() or len(text) > 3100 or not ("(--" in text or str(folder) in text):
            failure = f"no sentence: {text!r}"
    except BaseException:
        outcome, text, failure = "failed", "", traceback.format_exc()
    used = _peak() - before
    if used > MEMORY:
        failure = f"took {used / 2**20:.0f} MiB {failure}"
    if sentinel.exists():
        sentinel.rmdir()
        failure = f"RAN CODE {failure}"
    return Outcome(case, artefact.name, mutation, "failed" if failure else outcome, failure or text)


def put(path: Path, name: str, content: bytes | None) -> None:
    """Write what a mutation made of a file."""
    kept = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.unlink()
    if content is not None:
        path.write_bytes(content)
        os.utime(path, ns=kept)
    elif name == "fifo":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if name == "endless link" else "nowhere")


def _reset_peak() -> int:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def interrupt(signum: int, frame: FrameType | None) -> None:
    """What a timer calls."""
    raise Hang


def main(made: Path, scratch: Path, seed: int, cases: list[int], mode: Mode, out: IO[str]) -> None:
    """Run the cases, one line each before and after."""
    signal.signal(signal.SIGALRM, interrupt)
    signal.signal(signal.SIGPROF, interrupt)
    artefacts = catalogue(made)
    # More than any reader should take, so that what allocates without end is told so.
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 8 * MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for case in cases:
        print(json.dumps({"begun": case}), file=out, flush=True)
        # For what does not listen to signals.
        faulthandler.dump_traceback_later(2 * SECONDS, exit=True)
        found = run_case(made, scratch, artefacts, seed, case, mode)
        faulthandler.cancel_dump_traceback_later()
        print(json.dumps(asdict(found)), file=out, flush=True)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    place, work, own_seed, own_cases, own_mode = sys.argv[1:]
    report = os.fdopen(os.dup(1), "w")
    # What readers print is theirs.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    main(Path(place), Path(work), int(own_seed), json.loads(own_cases), cast(Mode, own_mode), report)

"""``python -m tests.fuzzing SEED [CASES]``: look for files that end in anything else than a sentence."""

import sys
import tempfile
from pathlib import Path

from tests.fuzzing.artefacts import make_all
from tests.fuzzing.campaign import counts, run

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        make_all(Path(name, "made"))
        for seed in map(int, sys.argv[1].split(",")):
            found = run(Path(name, "made"), Path(name, "work"), seed, range(int((sys.argv[2:] or [2000])[0])))
            for outcome in found:
                if outcome.outcome == "failed":
                    print(f"seed {seed}, case {outcome.case}: {outcome.artefact}, {outcome.mutation}\n{outcome.text}")
            print(f"seed {seed}\n{counts(found)}")

"""Files of every kind that we read, mutated: each is read, or refused in one sentence with an option."""

from pathlib import Path

import pytest

from tests.fuzzing.artefacts import make_all
from tests.fuzzing.campaign import counts, run

SEED = 2026


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_all(folder)
    return folder


@pytest.mark.slow
def test_two_thousand_mutations_are_read_or_refused_in_a_sentence(made: Path, tmp_path: Path) -> None:
    found = run(made, tmp_path, SEED, range(2000))
    table = counts(found)
    print(table)
    wrong = [f"case {o.case}: {o.artefact}, {o.mutation}\n{o.text}" for o in found if o.outcome == "failed"]
    assert not wrong, f"seed {SEED}\n{table}\n" + "\n".join(wrong)
    assert len(found) == 2000
    # Mutations that nothing notices would prove nothing.
    refused = sum(outcome.outcome == "refused" for outcome in found)
    assert refused > 1000 and len({outcome.artefact.partition("/")[0] for outcome in found}) >= 20


def test_some_of_each_kind(made: Path, tmp_path: Path) -> None:
    found = run(made, tmp_path, SEED, range(120), each=True)
    assert not [outcome for outcome in found if outcome.outcome == "failed"], counts(found)
    assert len(found) == 120

"""Whatever is done to a file that the project reads: it is read, or refused in one sentence, soon and without much memory."""

import pickle
import random
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from poison_and_defend.core.errors import InputError
from tests.fuzzing import worker
from tests.fuzzing.artefacts import Artefact, catalogue, make_all
from tests.fuzzing.campaign import counts, run
from tests.fuzzing.mutations import SPECIALS, Payload, choose
from tests.fuzzing.worker import Outcome, run_case

CASES, SEED = 2000, 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_all(folder)
    return folder


def check(found: Iterable[Outcome], seed: int) -> None:
    found = list(found)
    print(counts(found))
    failed = [f"seed {seed}, case {o.case}: {o.artefact}, {o.mutation}\n{o.text}" for o in found if o.outcome == "failed"]
    assert not failed, "\n\n".join(failed)


@pytest.fixture
def listening() -> Iterator[None]:
    """What hangs is interrupted, as in a process of its own."""
    signals = (signal.SIGALRM, signal.SIGPROF)
    before = [signal.signal(number, worker.interrupt) for number in signals]
    yield
    for number, handler in zip(signals, before, strict=True):
        signal.signal(number, handler)


def test_each_kind_of_file_changed_once(made: Path, tmp_path: Path, listening) -> None:
    # In this process, which has imported all that these need.
    artefacts = catalogue(made)
    check([run_case(made, tmp_path, artefacts, SEED, case, "each") for case in range(len(artefacts))], SEED)


@pytest.mark.slow
def test_two_thousand_changed_files(made: Path, tmp_path: Path) -> None:
    found = run(made, tmp_path, SEED, range(CASES))
    check(found, SEED)
    assert len(found) == CASES
    # Some changes do not matter, and most do.
    assert CASES / 10 < sum(outcome.outcome == "refused" for outcome in found) < CASES * 9 / 10


@pytest.mark.slow
def test_everything_but_a_file_in_the_place_of_each(made: Path, tmp_path: Path) -> None:
    check(run(made, tmp_path, SEED, range(len(catalogue(made)) * len(SPECIALS)), "places"), SEED)


# Of the test itself: what it would not see, it would not find


@pytest.mark.parametrize("name", ["a.json", "a.npy", "a.npz", "a.safetensors", "a.pickle", "a.csv", "a.png"])
def test_a_change_follows_from_its_seed(made: Path, tmp_path: Path, name: str) -> None:
    path = next(a.kind + "/" + a.file for a in catalogue(made) if Path(a.file).suffix == Path(name).suffix)
    content = (made / path).read_bytes()
    changes = [[choose(name, content, random.Random(f"1 {n}"), tmp_path) for n in range(50)] for _ in range(2)]
    assert changes[0] == changes[1]
    assert len({change for _, change in changes[0]}) > 25


def artefact(read) -> list[Artefact]:
    return [Artefact("arrays", "set.npz", read)]


def raising(error: BaseException):
    def read(folder: Path) -> None:
        raise error

    return read


def running(folder: Path) -> None:
    """What unpickles is given a program, whatever the seed."""
    pickle.loads(pickle.dumps(Payload(folder.parent / "ran")))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (raising(KeyError("overlap")), "KeyError: 'overlap'"),
        (raising(InputError("a sentence that names neither file nor option")), "no sentence"),
        (lambda folder: bytearray(b"x") * (worker.MEMORY * 5 // 4), "took 1"),
        (lambda folder: time.sleep(9), "Hang"),
        (running, "RAN CODE"),
    ],
)
def test_a_reader_that_fails_is_found(made: Path, tmp_path: Path, monkeypatch, listening, read, text: str) -> None:
    monkeypatch.setattr(worker, "SECONDS", 3.0)
    outcome = run_case(made, tmp_path, artefact(read), SEED, 3, "each")
    assert outcome.outcome == "failed" and text in outcome.text


def test_a_sentence_is_no_failure(made: Path, tmp_path: Path) -> None:
    outcome = run_case(made, tmp_path, artefact(raising(InputError("x is damaged (--data)"))), SEED, 3, "each")
    assert (outcome.outcome, outcome.text) == ("refused", "x is damaged (--data)")

import threading

import numpy as np
import pytest

from poison_and_defend.certificate import vote_store
from poison_and_defend.certificate.vote_store import VoteStore, fill
from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks

SETTINGS = {"seed": 0, "sigma": 0.25, "sampling": "FixedSize(n=60, m=9)"}
IMAGES = 12


def votes_of(members) -> tuple[np.ndarray, np.ndarray]:
    """Votes that are a function of the model's number alone, as real ones are."""
    drawn = [np.random.default_rng(m).integers(0, 10, IMAGES) for m in members]
    return np.array(drawn, np.uint16), np.array(members, np.uint64) * np.uint64(7919) + np.uint64(1)


def store(folder, **changes) -> VoteStore:
    made = VoteStore(folder / "votes", SETTINGS | changes, IMAGES, 10)
    made.create()
    return made


def run(one: VoteStore, stop: int, size: int = 10, ranks: Ranks | None = None, first: int = 0) -> list[range]:
    trained = []

    def train(block):
        trained.append(block)
        return votes_of(block)

    fill(one, first, stop, size, train, ranks or Ranks(), lambda done, total: None)
    return trained


def test_votes_come_back_in_the_order_of_the_models(tmp_path):
    one = store(tmp_path)
    run(one, 35)
    assert (one.read(0, 35) == votes_of(range(35))[0]).all()
    assert (one.read(7, 23) == votes_of(range(7, 23))[0]).all()


def test_more_votes_are_added_and_none_is_made_twice(tmp_path):
    assert run(store(tmp_path), 25) == [range(0, 10), range(10, 20), range(20, 25)]
    assert run(store(tmp_path), 25) == []
    assert run(store(tmp_path), 42) == [range(25, 30), range(30, 40), range(40, 42)]
    assert (store(tmp_path).read(0, 42) == votes_of(range(42))[0]).all()


def test_a_killed_run_continues_where_it_was(tmp_path):
    one = store(tmp_path)

    def killed(block):
        if block.start == 20:
            raise KeyboardInterrupt
        return votes_of(block)

    with pytest.raises(KeyboardInterrupt):
        fill(one, 0, 50, 10, killed, Ranks(), lambda done, total: None)
    assert run(store(tmp_path), 50) == [range(20, 30), range(30, 40), range(40, 50)]
    assert (one.read(0, 50) == votes_of(range(50))[0]).all()


def test_jobs_at_once_share_the_models(tmp_path, monkeypatch):
    monkeypatch.setattr(vote_store, "_POLL_SECONDS", 0.01)
    # Threads of one process stand in for jobs: claims are files, and do not know who looks at them.
    done: list[list[range]] = [[], [], []]
    jobs = [
        threading.Thread(target=lambda i=i: done[i].extend(run(store(tmp_path), 300, 10, Ranks(rank=i, world=3))))
        for i in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted((b for own in done for b in own), key=lambda b: b.start) == [range(i, i + 10) for i in range(0, 300, 10)]
    assert (store(tmp_path).read(0, 300) == votes_of(range(300))[0]).all()
    assert not list((tmp_path / "votes").glob("*.claim"))


def test_votes_of_other_models_are_refused(tmp_path):
    run(store(tmp_path), 10)
    with pytest.raises(InputError, match=r"models with sigma = 0.25, now it is 0.5: votes of different models do not add up"):
        store(tmp_path, sigma=0.5)
    with pytest.raises(InputError, match="warm_start = None, now it is raw"):
        store(tmp_path, warm_start="raw")
    assert (store(tmp_path).read(0, 10) == votes_of(range(10))[0]).all()
    (tmp_path / "votes" / "manifest.json").unlink()
    with pytest.raises(InputError, match="holds votes but no manifest"):
        store(tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 100, -1])
def test_a_cut_off_file_is_named_and_all_others_stay(tmp_path, keep):
    run(store(tmp_path), 30)
    path = tmp_path / "votes" / "votes_000010_000020.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(InputError, match=r"votes_000010_000020.npz is damaged or no votes .* remove this one file"):
        store(tmp_path)
    path.unlink()
    assert run(store(tmp_path), 30) == [range(10, 20)]
    assert path.read_bytes() == whole


def test_models_that_share_their_randomness_are_found(tmp_path):
    one = store(tmp_path)
    votes, marks = votes_of(range(10))
    one.add(range(0, 10), votes, marks)
    marks = marks + np.uint64(10 * 7919)
    marks[4] = votes_of([3])[1][0]
    one.add(range(10, 20), votes, marks)
    assert one.read(0, 10).shape == (10, IMAGES)
    with pytest.raises(InputError, match="models that share their noise and seed"):
        one.read(0, 20)


def test_missing_models_are_not_passed_over(tmp_path):
    one = store(tmp_path)
    one.add(range(0, 10), *votes_of(range(10)))
    one.add(range(20, 30), *votes_of(range(20, 30)))
    with pytest.raises(InputError, match="lacks votes of models 10 to 29"):
        one.read(0, 30)
    assert one.done(0, 30) == 20 and one.missing(0, 30, 10) == [range(10, 20)]


def test_jobs_that_asked_for_different_numbers_may_overlap(tmp_path):
    one = store(tmp_path)
    for block in (range(0, 10), range(10, 15), range(10, 20)):
        one.add(block, *votes_of(block))
    assert (one.read(0, 20) == votes_of(range(20))[0]).all()
    assert one.missing(0, 20, 10) == []


def test_models_that_saw_the_same_noise_are_found_under_different_seeds(tmp_path):
    def seeds(members: range) -> np.ndarray:
        return np.array([(977 + member * 2**14) % 2**32 for member in members], np.uint64)

    own = VoteStore(tmp_path / "votes", SETTINGS, IMAGES, 10, seeds)
    own.create()
    votes, seen = votes_of(range(10))
    seen[7] = seen[2]
    own.add(range(10), votes, seen ^ seeds(range(10)))
    with pytest.raises(InputError, match="models that share their noise: their votes do not count twice"):
        own.read(0, 10)
    assert own.read(0, 7).shape == (7, IMAGES)

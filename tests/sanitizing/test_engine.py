import copy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from poison_and_defend.core.errors import InputError
from poison_and_defend.core.processes.ranks import Ranks
from poison_and_defend.sanitizing.engine import load, sanitize
from poison_and_defend.storage.records import read_records
from tests.countermeasures import rewriter


@pytest.fixture
def images():
    return torch.randint(0, 256, (37, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def run(images, folder, defense, rows=None, batch_size=8, **kwargs):
    rows = torch.arange(len(images)) if rows is None else rows
    return sanitize(images, rows, defense, folder, Ranks(), batch_size=batch_size, **kwargs)


def test_a_store_holds_what_the_defence_makes_of_every_row(tmp_path, images, denoiser):
    defense = rewriter("diffusion", sigma=0.2, denoiser=denoiser)
    result = run(images, tmp_path / "store", defense, batch_size=37)
    # Kernels for another layout in memory round differently, never by more than a step of 8 bits.
    expected = defense(images, torch.arange(37))
    assert (result.int() - expected.int()).abs().max() <= 1 and (result != expected).float().mean() < 1e-4


def test_a_finished_store_is_read_and_not_made_again(tmp_path, images, denoiser):
    defense = rewriter("diffusion", denoiser=denoiser)
    first = run(images, tmp_path / "store", defense)
    calls = []
    second = run(images, tmp_path / "store", defense, progress=lambda done, total: calls.append(done))
    assert torch.equal(first, second) and not calls


def test_poison_rows_sanitized_apart_equal_sanitizing_the_whole_poisoned_set(tmp_path, images, denoiser):
    defense = rewriter("diffusion", sigma=0.3, denoiser=denoiser, seed=4)
    rows = torch.tensor([30, 2, 17])
    poisoned = images.clone()
    poisoned[rows] = 255 - poisoned[rows]
    whole = run(poisoned, tmp_path / "whole", defense)
    clean = run(images, tmp_path / "clean", defense).clone()
    clean[rows] = run(poisoned[rows], tmp_path / "poisons", defense, rows=rows)
    assert torch.equal(whole, clean)


def test_a_store_that_was_stopped_continues_to_the_same_bytes(tmp_path, images, denoiser):
    defense = rewriter("diffusion", denoiser=denoiser)
    whole = run(images, tmp_path / "whole", defense)

    def stop(done, total):
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "store", defense, progress=stop)
    counts = []
    resumed = run(images, tmp_path / "store", defense, progress=lambda done, total: counts.append(done))
    assert counts[0] >= 16 and torch.equal(whole, resumed)
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["images.npy", "manifest.json", "rows.csv"]


def test_a_killed_process_leaves_a_store_that_another_finishes(tmp_path, denoiser_folder, images, denoiser):
    code = f"""
import torch
from poison_and_defend.sanitizing.engine import sanitize
from poison_and_defend.diffusion.denoiser import load_denoiser
from tests.countermeasures import rewriter
from pathlib import Path
from poison_and_defend.core.processes.ranks import Ranks
images = torch.randint(0, 256, (37, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
import time
from pathlib import Path
defense = rewriter("diffusion", denoiser=load_denoiser({denoiser_folder!r}))
store = Path({str(tmp_path / "store")!r})
sanitize(images, torch.arange(37), defense, store, Ranks(), batch_size=8, progress=lambda done, total: time.sleep(0.5))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path.cwd())
    deadline = time.monotonic() + 300
    while not list((tmp_path / "store" / ".unfinished" / "blocks").glob("*.csv")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "store" / "manifest.json").exists()
    from poison_and_defend.diffusion.denoiser import load_denoiser

    defense = rewriter("diffusion", denoiser=load_denoiser(denoiser_folder))
    assert torch.equal(run(images, tmp_path / "store", defense), run(images, tmp_path / "whole", defense))


def test_a_store_made_with_other_settings_is_refused_by_name(tmp_path, images, denoiser):
    run(images, tmp_path / "store", rewriter("diffusion", sigma=0.1, denoiser=denoiser))
    with pytest.raises(InputError, match=r"sigma = 0\.1, now it is 0\.2.*--store"):
        run(images, tmp_path / "store", rewriter("diffusion", sigma=0.2, denoiser=denoiser))
    with pytest.raises(InputError, match="images = "):
        run(255 - images, tmp_path / "store", rewriter("diffusion", sigma=0.1, denoiser=denoiser))


def test_damage_is_noticed(tmp_path, images, denoiser):
    defense = rewriter("diffusion", denoiser=denoiser)
    run(images, tmp_path / "store", defense)
    path = tmp_path / "store" / "images.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        run(images, tmp_path / "store", defense)
    path.write_bytes(content[:500])
    with pytest.raises(InputError, match="damaged"):
        run(images, tmp_path / "store", defense)


def test_a_foreign_folder_is_not_touched(tmp_path, images):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="not a sanitized set"):
        run(images, tmp_path / "store", rewriter("noise_only"))
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["holiday.jpg"]


def test_an_incomplete_store_is_not_read(tmp_path, images):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "store", rewriter("noise_only"), progress=stop)
    with pytest.raises(InputError, match="not complete"):
        load(tmp_path / "store", tuple(images.shape))


def test_more_ranks_than_images_share_what_there_is(tmp_path, images):
    defense = rewriter("noise_only")
    found = sanitize(images[:2], torch.arange(2), defense, tmp_path / "s", Ranks(0, 3), batch_size=8)
    assert torch.equal(found, defense(images[:2], torch.arange(2)))


def test_every_row_is_on_record(tmp_path, images):
    run(images, tmp_path / "store", rewriter("noise_only"))
    records = list(read_records(tmp_path / "store" / "rows.csv"))
    assert [record.row for record in records] == list(range(37))
    assert len({record.source for record in records} | {record.result for record in records}) == 74


def test_a_denoiser_that_gives_no_numbers_is_refused_and_what_was_done_is_kept(tmp_path, images, denoiser):
    broken = copy.deepcopy(denoiser)
    next(iter(broken.unet.parameters())).data.fill_(float("nan"))
    with pytest.raises(InputError, match=r"image number \d+ cannot be sanitized: the denoiser's output was not finite"):
        run(images, tmp_path / "store", rewriter("diffusion", denoiser=broken))
    assert not list((tmp_path / "store" / ".unfinished" / "blocks").iterdir())


def _rank(rank, world, folder, port, denoiser_folder):
    import torch.distributed as dist

    from poison_and_defend.diffusion.denoiser import load_denoiser

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    images = torch.randint(0, 256, (37, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ranks = Ranks(rank, world, torch.device("cpu"), lambda name: dist.barrier())
    defense = rewriter("diffusion", sigma=0.3, denoiser=load_denoiser(denoiser_folder))
    sanitize(images, torch.arange(37), defense, folder, ranks, batch_size=8)
    dist.destroy_process_group()


@pytest.mark.ddp
def test_one_and_three_ranks_write_the_same_bytes(tmp_path, images, denoiser_folder):
    """Two of them do where whole experiments are compared."""
    import socket

    from poison_and_defend.diffusion.denoiser import load_denoiser

    alone, together = tmp_path / "alone", tmp_path / "together"
    run(images, alone, rewriter("diffusion", sigma=0.3, denoiser=load_denoiser(denoiser_folder)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (3, together, port, denoiser_folder), nprocs=3)
    assert (alone / "images.npy").read_bytes() == (together / "images.npy").read_bytes()


def test_a_set_that_another_job_finishes_just_now_is_taken_as_it_is(tmp_path, images, monkeypatch):
    from poison_and_defend.storage.ledger import BlockStore
    from poison_and_defend.storage.targets.array_target import ArrayTarget

    defense = rewriter("noise_only")
    run(images, tmp_path / "whole", defense)
    for owner, name in ((BlockStore, "plan"), (ArrayTarget, "open")):
        folder = tmp_path / name
        original = getattr(owner, name)

        def meanwhile(self, folder=folder, original=original, owner=owner, name=name):
            with monkeypatch.context() as inner:
                inner.setattr(owner, name, original)
                run(images, folder, defense)
            return original.fget(self) if isinstance(original, property) else original(self)

        with pytest.raises(KeyboardInterrupt):
            run(images, folder, defense, progress=lambda done, total: (_ for _ in ()).throw(KeyboardInterrupt))
        with monkeypatch.context() as outer:
            outer.setattr(owner, name, property(meanwhile) if isinstance(original, property) else meanwhile)
            assert torch.equal(run(images, folder, defense), load(tmp_path / "whole", tuple(images.shape)))

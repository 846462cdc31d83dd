import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from defenses.switch import Defense
from errors import InputError
from ranks import Ranks
from storage.store import SanitizedStore, sanitize


@pytest.fixture
def images():
    return torch.randint(0, 256, (37, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def run(images, folder, defense, rows=None, batch_size=8, **kwargs):
    rows = torch.arange(len(images)) if rows is None else rows
    return sanitize(images, rows, defense, folder, Ranks(), batch_size=batch_size, **kwargs)


def test_a_store_holds_what_the_defence_makes_of_every_row(tmp_path, images, denoiser):
    defense = Defense("diffusion", sigma=0.2, denoiser=denoiser)
    result = run(images, tmp_path / "store", defense, batch_size=37)
    assert torch.equal(result, defense(images, torch.arange(37)))


def test_a_finished_store_is_read_and_not_made_again(tmp_path, images, denoiser):
    defense = Defense("diffusion", denoiser=denoiser)
    first = run(images, tmp_path / "store", defense)
    calls = []
    second = run(images, tmp_path / "store", defense, progress=lambda done, total: calls.append(done))
    assert torch.equal(first, second) and not calls


def test_poison_rows_sanitized_apart_equal_sanitizing_the_whole_poisoned_set(tmp_path, images, denoiser):
    defense = Defense("diffusion", sigma=0.3, denoiser=denoiser, seed=4)
    rows = torch.tensor([30, 2, 17])
    poisoned = images.clone()
    poisoned[rows] = 255 - poisoned[rows]
    whole = run(poisoned, tmp_path / "whole", defense)
    clean = run(images, tmp_path / "clean", defense).clone()
    clean[rows] = run(poisoned[rows], tmp_path / "poisons", defense, rows=rows)
    assert torch.equal(whole, clean)


def test_a_store_that_was_stopped_continues_to_the_same_bytes(tmp_path, images, denoiser):
    defense = Defense("diffusion", denoiser=denoiser)
    whole = run(images, tmp_path / "whole", defense)

    def stop(done, total):
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "store", defense, progress=stop)
    counts = []
    resumed = run(images, tmp_path / "store", defense, progress=lambda done, total: counts.append(done))
    assert counts[0] > 16 and torch.equal(whole, resumed)


def test_a_killed_process_leaves_a_store_that_another_finishes(tmp_path, denoiser_folder, images, denoiser):
    code = f"""
import torch
from storage.store import sanitize
from defenses.denoiser import load_denoiser
from defenses.switch import Defense
from pathlib import Path
from ranks import Ranks
images = torch.randint(0, 256, (37, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
import time
from pathlib import Path
defense = Defense("diffusion", denoiser=load_denoiser({denoiser_folder!r}))
store = Path({str(tmp_path / "store")!r})
sanitize(images, torch.arange(37), defense, store, Ranks(), batch_size=8, progress=lambda done, total: time.sleep(0.5))
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path.cwd())
    deadline = time.monotonic() + 300
    while not (tmp_path / "store" / "done.npy").exists() or np.load(tmp_path / "store" / "done.npy").sum() < 8:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["sha256"] is None
    from defenses.denoiser import load_denoiser

    defense = Defense("diffusion", denoiser=load_denoiser(denoiser_folder))
    assert torch.equal(run(images, tmp_path / "store", defense), run(images, tmp_path / "whole", defense))


def test_a_store_made_with_other_settings_is_refused_by_name(tmp_path, images, denoiser):
    run(images, tmp_path / "store", Defense("diffusion", sigma=0.1, denoiser=denoiser))
    with pytest.raises(InputError, match=r"sigma = 0\.1, now it is 0\.2.*--store"):
        run(images, tmp_path / "store", Defense("diffusion", sigma=0.2, denoiser=denoiser))
    with pytest.raises(InputError, match="images = "):
        run(255 - images, tmp_path / "store", Defense("diffusion", sigma=0.1, denoiser=denoiser))


def test_damage_is_noticed(tmp_path, images, denoiser):
    defense = Defense("diffusion", denoiser=denoiser)
    run(images, tmp_path / "store", defense)
    path = tmp_path / "store" / "images.npy"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="checksum"):
        run(images, tmp_path / "store", defense)
    path.write_bytes(content[:500])
    with pytest.raises(InputError, match="damaged"):
        run(images, tmp_path / "store", defense)


def test_a_foreign_folder_is_not_touched(tmp_path, images):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="not a sanitized store"):
        run(images, tmp_path / "store", Defense("noise_only"))
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["holiday.jpg"]


def test_an_incomplete_store_is_not_read(tmp_path, images):
    store = SanitizedStore(tmp_path / "store", {}, tuple(images.shape))
    store.create()
    with pytest.raises(InputError, match="not complete"):
        store.load()


def test_fewer_images_than_ranks_are_refused(tmp_path, images):
    with pytest.raises(InputError, match="2 images cannot be shared by 3 ranks"):
        sanitize(images[:2], torch.arange(2), Defense("noise_only"), tmp_path / "s", Ranks(0, 3), batch_size=8)


def _rank(rank, world, folder, port, denoiser_folder):
    import torch.distributed as dist

    from defenses.denoiser import load_denoiser

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    images = torch.randint(0, 256, (37, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ranks = Ranks(rank, world, torch.device("cpu"), lambda name: dist.barrier())
    defense = Defense("diffusion", sigma=0.3, denoiser=load_denoiser(denoiser_folder))
    sanitize(images, torch.arange(37), defense, folder, ranks, batch_size=8)
    dist.destroy_process_group()


@pytest.mark.ddp
def test_one_two_and_three_ranks_write_the_same_bytes(tmp_path, denoiser_folder):
    import socket

    stores = []
    for world in (1, 2, 3):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder = tmp_path / f"store{world}"
        torch.multiprocessing.spawn(_rank, (world, folder, port, denoiser_folder), nprocs=world)
        stores.append((folder / "images.npy").read_bytes())
    assert stores[0] == stores[1] == stores[2]

"""What the dead leave behind, and how a run that is asked to stop ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from poison_and_defend.core.processes.stopping import Stopped
from poison_and_defend.sanitizing.filler import Filler
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.storage.records import read_records
from poison_and_defend.storage.targets.base import read_manifest
from tests.picture_folders import check, photo, tree, write_photos


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


# What the dead leave


def test_nothing_of_the_dead_outlives_a_finished_run(sanitize, tmp_path, stopped_after) -> None:
    root = write_photos(tmp_path / "in", 8)
    out = tmp_path / "out"
    with stopped_after(2):
        sanitize(root, noise_seed=None, batch_size=2)
    for name in (".unfinished.0123.partial/blocks", ".unfinished.4567.partial"):
        (out / name).mkdir(parents=True)
    (tmp_path / ".out.noise-0123456789abcdef.json").write_text("{}")
    (out / "class0" / ".ab-1.partial").write_bytes(b"x")
    sanitize(root, noise_seed=None, batch_size=2)
    assert hidden(out) == [] and hidden(out / "class0") == []
    assert ImageFolder(out).classes == ["class0", "class1"]
    check(out)
    (name,) = (name for name in hidden(tmp_path) if "noise" in name)
    assert name != ".out.noise-0123456789abcdef.json"


def test_what_a_kill_at_the_very_end_left_goes_with_the_next_command(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 4)
    out = sanitize(root)
    (out / ".unfinished" / "blocks").mkdir(parents=True)
    (out / ".unfinished.0123.partial").mkdir()
    (out / "class0" / ".ab-1.partial").write_bytes(b"x")
    sanitize(root)
    assert hidden(out) == [] and hidden(out / "class0") == []
    check(out)


@pytest.mark.parametrize("where", [".out.npz.unfinished.0123.partial/blocks", ".out.npz.unfinished.4567.partial"])
def test_nor_beside_an_npz(sanitize, tmp_path, where: str) -> None:
    root = write_photos(tmp_path / "in", 4)
    (tmp_path / where).mkdir(parents=True)
    sanitize(root, tmp_path / "out.npz")
    assert hidden(tmp_path) == [".out.npz.inputs.npy"]


def test_kills_while_an_npz_is_put_together_leave_at_most_one_copy(sanitize, tmp_path, monkeypatch) -> None:
    root = write_photos(tmp_path / "in", 4)
    replace = os.replace

    def killed(source, target) -> None:
        if str(target).endswith("out.npz"):
            # What `finally` would tidy up stays, as after a kill.
            monkeypatch.setattr("poison_and_defend.storage.targets.npz_target.Path.unlink", lambda self, missing_ok=False: None)
            raise Stopped("killed")
        replace(source, target)

    unlink = Path.unlink
    for _ in range(3):
        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(Stopped):
            sanitize(root, tmp_path / "out.npz")
        monkeypatch.setattr(Path, "unlink", unlink)
        for claim in (tmp_path / ".out.npz.unfinished" / "claims").iterdir():
            claim.unlink()
        assert len(list((tmp_path / ".out.npz.unfinished").glob("*.partial"))) == 1
        assert not list(tmp_path.glob("*.partial"))
    monkeypatch.setattr(os, "replace", replace)
    sanitize(root, tmp_path / "out.npz")
    assert hidden(tmp_path) == [".out.npz.inputs.npy"]


_FINISHER = """
import sys, time
from pathlib import Path
from poison_and_defend.training.launch import Launch
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeInput, SanitizeTask

place, own, turns = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for turn in range(turns):
    (place / f"ready-{turn}-{own}").touch()
    while len(list(place.glob(f"ready-{turn}-*"))) < 3:
        time.sleep(0.001)
    data = SanitizeInput(str(place / "in"))
    task = SanitizeTask(str(place / f"out{turn}"), data, defense="noise_only", sigma=0.1, batch_size=1)
    sanitize_alone(task, Launch(accelerator="cpu", devices=1))
"""


@pytest.mark.slow
def test_three_processes_may_finish_at_the_same_moment(tmp_path) -> None:
    write_photos(tmp_path / "in", 4)
    turns = 60
    command = [sys.executable, "-c", _FINISHER, str(tmp_path)]
    jobs = [
        subprocess.Popen([*command, str(own), str(turns)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for own in range(3)
    ]
    assert [job.communicate(timeout=300)[1].count("Error") for job in jobs] == [0, 0, 0]
    assert [job.returncode for job in jobs] == [0, 0, 0]
    for turn in range(turns):
        check(tmp_path / f"out{turn}")
        assert hidden(tmp_path / f"out{turn}") == []
        assert len([name for name in hidden(tmp_path) if name.startswith(f".out{turn}.")]) == 2


# Stopping


def test_a_signal_stops_a_large_image_between_batches(sanitize, tmp_path, monkeypatch) -> None:
    root = tmp_path / "in"
    root.mkdir()
    photo(1, 600, 400).save(root / "large.png")
    begun = []
    run = Filler.run

    def asked(self, signals, progress) -> None:
        evaluate = self.tiled.batches._evaluate

        def slow(batch):
            begun.append(time.monotonic())
            if len(begun) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            return evaluate(batch)

        monkeypatch.setattr(self.tiled.batches, "_evaluate", slow)
        run(self, signals, progress)

    monkeypatch.setattr(Filler, "run", asked)
    monkeypatch.setattr("poison_and_defend.core.processes.stopping.GRACE_SECONDS", 0.3)
    with pytest.raises(Stopped, match="stopped by SIGTERM: 0 of 1 images are done, and the same command continues"):
        sanitize(root)
    # 5,576 tiles would take half a minute.
    assert len(begun) > 3 and time.monotonic() - begun[2] < 5
    monkeypatch.setattr(Filler, "run", run)
    check(sanitize(root))


def test_small_images_at_hand_are_finished_first(sanitize, tmp_path, monkeypatch) -> None:
    root = write_photos(tmp_path / "in", 40)
    claim = BlockStore.claim

    def asked(self):
        if self.rows_done() == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
        return claim(self)

    monkeypatch.setattr(BlockStore, "claim", asked)
    with pytest.raises(Stopped, match=r"stopped by SIGUSR1: [1-9]"):
        sanitize(root, batch_size=4)


def test_the_png_of_a_row_does_not_depend_on_what_the_set_is_called(sanitize, tmp_path) -> None:
    root = write_photos(tmp_path / "in", 2)
    assert tree(sanitize(root)) == tree(sanitize(root, tmp_path / "other"))
    assert [record.row for record in read_records(tmp_path / "out" / "rows.csv")] == [0, 1]
    assert read_manifest(tmp_path / "out", "--out") is not None
    assert Image.open(tmp_path / "out" / "class0" / "0000.png").size == (16, 16)

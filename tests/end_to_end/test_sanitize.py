"""The command itself, whatever dies on the way: the bytes are those of a run that nobody disturbed."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from poison_and_defend.core.processes.stopping import STOPPED_STATUS
from tests.end_to_end.conftest import ROOT
from tests.picture_folders import photo, tree, write_photos

pytestmark = [pytest.mark.slow, pytest.mark.ddp]

# How often a run is killed; 25 for the record in docs/records/sanitizing_kills.json.
KILLS = int(os.environ.get("SANITIZE_KILLS", "3"))
DENOISER = "cifar10"


def command(root: Path, out: Path, *, ranks: int = 1) -> list[str]:
    strategy = ["--trainer.strategy=ddp"] if ranks > 1 else []
    options = [
        f"--data.root={root}",
        f"--out={out}",
        f"--denoiser={DENOISER}",
        "--sigma=0.1",
        "--batch_size=8",
        "--noise_seed=0",
    ]
    return [
        sys.executable,
        "-m",
        "poison_and_defend",
        "sanitize",
        *options,
        "--trainer.accelerator=cpu",
        f"--trainer.devices={ranks}",
        *strategy,
    ]


@pytest.fixture
def start(tmp_path):
    """Starts commands in process groups of their own, which do not outlive the test."""
    processes: list[subprocess.Popen] = []

    def run(arguments: list[str]) -> subprocess.Popen:
        inherited = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT")}
        log = open(tmp_path / f"log{len(processes)}", "w")  # noqa: SIM115
        process = subprocess.Popen(
            arguments, cwd=ROOT, env={**inherited, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log, start_new_session=True
        )
        process.log = Path(log.name)
        processes.append(process)
        return process

    yield run
    for process in processes:
        kill_group(process)


def kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def children(process: subprocess.Popen) -> list[int]:
    text = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True).stdout
    return [int(word) for word in text.split()]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 120) -> bool:
    """Whether it came true before the process ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, process.log.read_text()
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def recorded(out: Path) -> int:
    return len(list((out / ".unfinished" / "blocks").glob("*.csv")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = write_photos(tmp_path_factory.mktemp("photos") / "in", 50 * KILLS + 30)
    # One of another size, and one that cannot be read.
    photo(1, 70, 50).save(folder / "class0" / "0000.png")
    (folder / "class1" / "0001.png").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def undisturbed(photos, cli, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    result = cli(*command(photos, out)[3:])
    assert result.returncode == 0, result.stderr
    assert "1 images could not be sanitized" in result.stdout
    return out


def test_two_ranks_that_are_killed_again_and_again_end_with_the_same_bytes(photos, undisturbed, start, tmp_path) -> None:
    out, chance, killed = tmp_path / "out", random.Random(0), []
    for number in range(KILLS):
        process = start(command(photos, out, ranks=2))
        before = recorded(out)
        whom = ("all", "second", "first")[number % 3]
        # Mostly in the middle of the work, sometimes while processes start.
        if chance.random() < 0.8 and not wait_for(lambda before=before: recorded(out) > before, process):
            break
        time.sleep(chance.uniform(0, 1.5))
        others = children(process)
        if process.poll() is not None:
            break
        killed.append((whom, recorded(out)))
        if whom == "second" and others:
            os.kill(chance.choice(others), signal.SIGKILL)
            # The launcher ends the first rank.
            process.wait(60)
        elif whom == "first":
            process.kill()
            process.wait()
            # The second is an orphan that goes on; every other time it is left to that.
            if number % 2 == 0:
                kill_group(process)
        else:
            kill_group(process)
        assert not (out / "manifest.json").exists() or recorded(out) == 0
    process = start(command(photos, out, ranks=2))
    assert process.wait(300) == 0, process.log.read_text()
    assert len(killed) > KILLS // 2 and len({whom for whom, _ in killed}) > 1
    assert tree(out) == tree(undisturbed)
    if record := os.environ.get("SANITIZE_RECORD"):
        Path(record).write_text(
            json.dumps({"kills": [{"whom": a, "blocks_done": b} for a, b in killed], "same": True}, indent=1)
        )


def test_what_the_first_rank_refuses_is_one_sentence_of_all(photos, undisturbed, start, tmp_path) -> None:
    changed, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(photos, changed)
    shutil.copytree(undisturbed, out)
    photo(77).save(changed / "class1" / "0003.png")
    process = start(command(changed, out, ranks=2))
    assert process.wait(120) == 2
    said = process.log.read_text().splitlines()
    assert "class1/0003.png changed since" in said[-1] and not any("Traceback" in line for line in said), said


def test_a_killed_jobs_rows_are_taken_over_by_an_independent_one(photos, undisturbed, start, tmp_path) -> None:
    out = tmp_path / "out"
    one, two = start(command(photos, out)), start(command(photos, out))
    assert wait_for(lambda: recorded(out) > 3, one)
    kill_group(one)
    assert not (out / "manifest.json").exists()
    assert two.wait(200) == 0, two.log.read_text()
    assert tree(out) == tree(undisturbed)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_signal_to_the_first_rank_stops_both_with_a_sentence_and_the_same_command_continues(
    photos, undisturbed, start, tmp_path, number
) -> None:
    out = tmp_path / "out"
    process = start(command(photos, out, ranks=2))
    assert wait_for(lambda: recorded(out) > 0, process)
    others = children(process)
    process.send_signal(number)
    assert process.wait(60) == STOPPED_STATUS, process.log.read_text()
    text = process.log.read_text()
    assert f"stopped by {number.name}: " in text and "the same command continues" in text and "Traceback" not in text
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in others):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Nothing is left that another job would have to wait for.
    assert not list((out / ".unfinished" / "claims").iterdir())
    done = recorded(out)
    process = start(command(photos, out))
    assert process.wait(200) == 0
    assert done > 0 and " of them done: about" in process.log.read_text()
    assert tree(out) == tree(undisturbed)


def test_a_full_disk_stops_with_a_sentence_and_the_run_continues_once_there_is_room(
    photos, undisturbed, start, small_disk
) -> None:
    out = small_disk / "out"
    process = start(command(photos, out))
    assert wait_for(lambda: recorded(out) > 0, process)
    room = shutil.disk_usage(small_disk).free
    with open(small_disk / "filler", "wb") as file:
        # All but two files' worth.
        file.write(bytes(max(0, room - 8192)))
    assert process.wait(60) == 2, process.log.read_text()
    text = process.log.read_text()
    assert "error: there is no room left on the disk: " in text and "are done and kept" in text and "--out" in text
    assert "Traceback" not in text
    (small_disk / "filler").unlink()
    process = start(command(photos, out))
    assert process.wait(200) == 0, process.log.read_text()
    assert tree(out) == tree(undisturbed)


def test_a_disk_that_is_too_small_or_read_only_is_refused_at_once(photos, start, small_disk) -> None:
    with open(small_disk / "filler", "wb") as file:
        file.write(bytes(shutil.disk_usage(small_disk).free - 100_000))
    process = start(command(photos, small_disk / "out"))
    assert process.wait(60) == 2
    assert "of disk" in process.log.read_text() and "(--out)" in process.log.read_text()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    process = start(command(photos, small_disk / "out2"))
    assert process.wait(60) == 2
    assert "Read-only file system (--out)" in process.log.read_text()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


def test_verify_says_what_is_missing_and_what_was_changed(photos, undisturbed, start, cli, tmp_path) -> None:
    process = start(command(photos, tmp_path / "half"))
    assert wait_for(lambda: recorded(tmp_path / "half") > 0, process)
    kill_group(process)
    # Nobody trains on half a set by mistake.
    with pytest.raises(FileNotFoundError, match="unfinished"):
        ImageFolder(tmp_path / "half")
    assert len(ImageFolder(undisturbed).samples) == len(ImageFolder(photos).samples) - 1
    result = cli("sanitize", "--verify", tmp_path / "half")
    assert result.returncode == 2 and "is not complete: " in result.stderr and "images are done" in result.stderr
    result = cli("sanitize", "--verify", undisturbed, "--data.root", photos)
    assert result.returncode == 0 and "is complete and unchanged" in result.stdout and "1 skipped" in result.stdout
    shutil.copytree(undisturbed, tmp_path / "copy")
    (tmp_path / "copy" / "class0" / "0002.png").write_bytes(b"x")
    result = cli("sanitize", "--verify", tmp_path / "copy")
    assert result.returncode == 2 and "class0/0002.png was changed" in result.stderr

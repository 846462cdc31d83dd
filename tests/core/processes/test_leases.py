import errno
import os
import socket
import subprocess
import sys

import pytest

from poison_and_defend.core.processes import leases
from poison_and_defend.core.processes.leases import Leases


def test_one_of_many_holds_a_lease(tmp_path):
    holders = [Leases(tmp_path) for _ in range(3)]
    assert [h.claim("a") for h in holders] == [True, False, False]
    holders[0].release("a")
    assert [h.claim("a") for h in holders[1:]] == [True, False]
    holders[1].release_all()
    assert not list(tmp_path.iterdir())


def test_a_dead_process_of_this_machine_loses_its_lease_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path;"
        "from poison_and_defend.core.processes.leases import Leases; print(Leases(Path(sys.argv[1])).claim('a'))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True).stdout == "True\n"
    assert Leases(tmp_path).claim("a")


def test_another_machines_lease_lapses_once_it_was_seen_untouched_for_long(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    path = tmp_path / "a.claim"
    path.write_text(f"not-{socket.gethostname()} 1")
    # Its clock may be anything: only changes count.
    os.utime(path, (0, 0))
    own = Leases(tmp_path, stale=60)
    assert not own.claim("a")
    clock[0] += 59
    assert not own.claim("a")
    os.utime(path, (5, 5))
    clock[0] += 59
    assert not own.claim("a")
    clock[0] += 61
    assert own.claim("a")


@pytest.mark.parametrize("text", ["", "host", "a b c"])
def test_a_claim_cut_off_while_written_lapses_too(tmp_path, monkeypatch, text):
    clock = [0.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    (tmp_path / "a.claim").write_text(text)
    own = Leases(tmp_path, stale=60)
    assert not own.claim("a")
    clock[0] = 61
    assert own.claim("a")


def test_a_holder_keeps_touching_its_leases(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    own = Leases(tmp_path)
    own.claim("a")
    path = tmp_path / "a.claim"
    os.utime(path, (0, 0))
    for _ in range(1000):
        if path.stat().st_mtime > 0:
            break
        leases.time.sleep(0.01)
    assert path.stat().st_mtime > 0


def test_an_empty_claim_is_waited_for_no_longer_than_a_beat(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: clock[0])
    (tmp_path / "a.claim").touch()
    own = Leases(tmp_path)
    assert not own.claim("a")
    clock[0] = leases.BEAT_SECONDS + 1
    assert own.claim("a")


@pytest.mark.parametrize("links", [True, False])
def test_a_claim_comes_into_being_with_its_words(tmp_path, monkeypatch, links):
    """Killed at any system call, a process leaves a whole claim or none, where there are hard links."""
    seen = []
    if not links:

        def refuse(*paths):
            raise OSError(errno.EPERM, "no links")

        monkeypatch.setattr(leases.os, "link", refuse)
    link = leases.os.link

    def watched(source, target):
        seen.append((source.read_text(), target.exists()))
        link(source, target)

    monkeypatch.setattr(leases.os, "link", watched)
    assert Leases(tmp_path).claim("a")
    assert seen == [(f"{socket.gethostname()} {os.getpid()}", False)]
    assert (tmp_path / "a.claim").read_text() == seen[0][0] and [p.name for p in tmp_path.iterdir()] == ["a.claim"]
    assert not Leases(tmp_path).claim("a")

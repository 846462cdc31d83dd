import os
import signal
import subprocess
import sys
import threading
import time

from poison_and_defend.core.processes.stopping import StopSignals


def test_signals_are_noted_while_it_is_entered_and_handlers_are_as_before_afterwards() -> None:
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with StopSignals() as signals:
            assert signals.asked is None
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signals.asked == "SIGUSR1" and not seen
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.asked == "SIGTERM"
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [signal.SIGUSR1]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_children_get_the_signal_and_one_that_has_gone_is_no_error() -> None:
    code = "import signal, time; signal.signal(signal.SIGUSR1, lambda *_: exit(7)); print('ready', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with StopSignals((child.pid, gone.pid)):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0)
    assert child.wait(10) == 7


def test_outside_the_main_thread_it_changes_nothing() -> None:
    found = []

    def work() -> None:
        with StopSignals() as signals:
            found.append((signals.asked, signal.getsignal(signal.SIGUSR1)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(None, signal.getsignal(signal.SIGUSR1))]

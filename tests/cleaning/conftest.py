from contextlib import contextmanager
from pathlib import Path

import pytest

from poison_and_defend.cleaning.data_task import SanitizeData
from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeTask
from poison_and_defend.core.processes.stopping import Stopped
from poison_and_defend.storage.ledger import BlockStore
from poison_and_defend.training.launch import Launch
from tests.small_experiments import digits, experiment, plan

__all__ = ["digits", "experiment", "plan", "sanitize", "stopped_after"]


@pytest.fixture
def sanitize(colour_denoiser_folder, tmp_path):
    """The command, with a seed that is known so that runs can be compared; ``noise_seed=None`` is what users get."""

    def run(root=None, out: Path | None = None, source=None, channels=None, bits=16, follow_links=False, **options) -> Path:
        data = SanitizeData(str(root) if isinstance(root, Path) else root, channels, bits, follow_links, source)
        given = {"denoiser": colour_denoiser_folder, "sigma": 0.1, "out": str(out or tmp_path / "out"), "noise_seed": 0}
        return sanitize_alone(SanitizeTask(data=data, **given | options), Launch(accelerator="cpu", devices=1))

    return run


@pytest.fixture
def stopped_after(monkeypatch):
    """Lets a run end, as a kill would, once so many blocks are done."""

    @contextmanager
    def stop(blocks: int):
        record, done = BlockStore.record, []

        def counted(self, block, records) -> None:
            if len(done) == blocks:
                raise Stopped("killed")
            done.append(block)
            record(self, block, records)

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(BlockStore, "record", counted)
            yield

    return stop

import pytest

from poison_and_defend.cleaning.run import sanitize_alone
from poison_and_defend.cleaning.task import SanitizeInput, SanitizeTask
from poison_and_defend.training.launch import Launch
from tests.picture_folders import write_photos


@pytest.fixture
def make_set(tmp_path):
    """A complete set of six images in two classes."""

    def make(name: str):
        root = write_photos(tmp_path / "in", 6)
        task = SanitizeTask(str(tmp_path / name), SanitizeInput(str(root)), defense="noise_only", sigma=0.1)
        return sanitize_alone(task, Launch(accelerator="cpu", devices=1))

    return make

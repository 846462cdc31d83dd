import pytest

from stages.launch import Launch
from stages.sanitize_alone import sanitize_alone
from stages.sanitize_task import SanitizeInput, SanitizeTask
from tests.picture_folders import write_photos


@pytest.fixture
def make_set(tmp_path):
    """A complete set of six images in two classes."""

    def make(name: str):
        root = write_photos(tmp_path / "in", 6)
        task = SanitizeTask(str(tmp_path / name), SanitizeInput(str(root)), defense="noise_only", sigma=0.1)
        return sanitize_alone(task, Launch(accelerator="cpu", devices=1))

    return make

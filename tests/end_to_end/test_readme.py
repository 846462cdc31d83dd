"""What the README tells people to type."""

import os
import re
import subprocess
import sys

import pytest

from tests.end_to_end.conftest import ROOT

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(3))
def test_examples_run_as_they_are(number: int, tmp_path) -> None:
    assert len(EXAMPLES) == 3 and len(EXAMPLES[number].strip().splitlines()) <= 14
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    (tmp_path / "example.py").write_text(EXAMPLES[number])
    result = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "torch.Size(" in result.stdout

"""What the README tells people to type, and what all pages say of files and commands."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.end_to_end.conftest import ROOT

CONFIGS = ROOT / "poison_and_defend" / "configs"
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/[!_]*/**/*.md", "poison_and_defend/*/*.md", ".github/*.md", ".github/*/*.yml")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # which tells of what was
)
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
# A file by its ending, or a folder by its slash.
PATH = re.compile(r"[a-z_.][\w.-]*(?:/[\w.-]+)*(?:\.(?:py|yaml|md|toml|sh|sbatch|svg|txt)|/)")
# What a reader chooses.
CHOSEN = re.compile("NAME|DIR|FOLDER")
# What a command or a tool makes.
MADE = ("config.yaml", "runs/", "stores/", "votes/", "poisons/", "figures/", "wandb/", "surrogates/", ".venv/", "build/")


def test_the_example_runs_as_it_is(tmp_path) -> None:
    """Those of the pages are run by tests/docs."""
    (example,) = EXAMPLES
    assert len(example.strip().splitlines()) <= 14
    (tmp_path / "example.py").write_text(example)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert "torch.Size(" in result.stdout


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = {
        word
        for code in re.findall(r"`([^`\n]+)`", text)
        for word in [code.split()[0]]
        if PATH.fullmatch(word) and not CHOSEN.search(word)
    }
    # Files that the page's own blocks write, and those of a folder that it has named before.
    named -= {name for name in named if f"<!-- file: {name} -->" in text or name.startswith("my_")}
    places = (ROOT, page.parent, ROOT / "poison_and_defend")
    assert [name for name in named if not name.startswith(MADE) and not any((place / name).exists() for place in places)] == []


@pytest.fixture(scope="module")
def commands(in_process) -> set[str]:
    return set(re.findall(r"^  ([a-z-]+) ", in_process("--help").stdout, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_preset_that_a_page_names_is_there(page: Path, commands) -> None:
    text = page.read_text()
    assert not re.search(r"(?<!\w)cli\.py [a-z]", text), "the command is poison-and-defend"
    assert set(re.findall(r"(?:^|`|bin/)poison-and-defend ([a-z][\w-]*)", text, re.MULTILINE)) <= commands
    presets = {
        path.relative_to(folder).with_suffix("").as_posix()
        for folder in (CONFIGS, CONFIGS / "attack")
        for path in folder.rglob("*.yaml")
    }
    # A name with a dot is a file, or a class, of the reader's own.
    given = re.findall(r"--(?:config|attack)[ =]([a-z][\w/]*)(?![\w/.])", text)
    assert {name for name in given if not CHOSEN.search(name)} <= presets


def test_the_table_of_rooms_is_the_contract_of_imports() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    text = (ROOT / "docs" / "explain" / "architecture.md").read_text()
    floors: list[set[str]] = []
    for floor, room in re.findall(r"^\| ([^|]*)\| `(?:poison_and_defend/)?(\w+)/` \|", text, re.MULTILINE):
        if floor.strip():
            floors.append(set())
        floors[-1].add(room)
    assert floors == [set(layer.split(" | ")) for layer in contract["layers"] if layer != "__main__"]


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: path.stem)
def test_forms_can_be_shown(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    fields = [field["id"] for field in form["body"]]
    assert len(fields) == len(set(fields)) and all(re.fullmatch(r"\w+", name) for name in fields)
    for field in form["body"]:
        assert field["type"] in ("input", "textarea", "dropdown", "checkboxes") and field["attributes"]["label"]
        assert field["type"] not in ("dropdown", "checkboxes") or len(field["attributes"]["options"]) >= 1


def test_continuous_integration_runs_what_anybody_can_run() -> None:
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)

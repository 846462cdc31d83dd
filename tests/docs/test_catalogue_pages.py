"""The pages of commands and options are made of the kept help, whole."""

import importlib.util
import json
from pathlib import Path

import pytest

from poison_and_defend.cli.help.catalogue import FOLDER
from poison_and_defend.cli.table import COMMANDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("catalogue_pages", DOCS / "catalogue_pages.py")
pages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pages)


@pytest.mark.parametrize("page", pages.PAGES)
def test_a_page_has_one_mark_and_it_is_filled(page) -> None:
    text = (DOCS / f"{page}.md").read_text()
    assert text.count(pages.MARKER) == 1
    source = [text]
    pages.fill(None, page, source)
    assert pages.MARKER not in source[0] and len(source[0]) > 2 * len(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_its_help_and_all_of_its_options(command) -> None:
    kept = json.loads((FOLDER / f"{command}.json").read_text())
    assert f"\n## {command}\n\n```text\n{kept['help'].rstrip()}\n```\n" in pages.commands_page()
    # A row names an option, says something of it, and names the commands that take it.
    rows = [line.strip("| ").split(" | ") for line in pages.options_page().splitlines() if line.startswith("| `--")]
    told = {cells[0].strip("`-") for cells in rows if command in cells[-1].split(", ")}
    said = [line.split()[0].strip(",").removeprefix("--") for line in kept["help"].splitlines() if line.startswith("  --")]
    assert {name for name in said if not name.startswith("trainer.") or command == "sanitize"} <= told
    assert all(len(cells) == 4 and cells[1].strip() for cells in rows)


def test_arguments_of_a_class_are_listed() -> None:
    text = pages.options_page()
    assert "### BullseyePolytope\n" in text and "### ArraysDataModule\n" in text and "| `statistics_from` |" in text

"""Blocks of the pages under start/, how-to/ and extend/: which are run, and that those that are not say why."""

import re

import pytest

from tests.docs.reader import DOCS, PAGES, REASONS, blocks_of, matches


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_says_why(page: str) -> None:
    text = (DOCS / page).read_text()
    blocks = blocks_of(page)
    assert len(re.findall("^```", text, re.MULTILINE)) == 2 * len(blocks), "a block is not closed, or indented"
    for block in blocks:
        assert block.language in ("bash", "python", "diff", "text") or (block.language == "yaml" and block.file), block
        assert not block.comment or block.file or block.reason in REASONS, block


def test_output_is_compared() -> None:
    assert matches("...\n3 of 4 = ...%\n", "begin\n 3 of  4 = 75%\nend")
    assert not matches("...\n3 of 4 = ...%\n", "begin\n2 of 4 = 50%\nend")
    assert not matches("class 0: 1 images\n", "class 0: 2 images\n")


OWN = {
    "extend/attack.md": ["my_attack.py"],
    "extend/defense.md": ["my_rewriter.py", "my_filter.py", "my_recipe.py", "my_gradient.py", "my_vote.py"],
    "extend/network.md": ["my_networks.py"],
}


@pytest.mark.parametrize(("page", "file"), [(page, file) for page, files in OWN.items() for file in files])
def test_what_one_adds_of_ones_own_is_short(page: str, file: str) -> None:
    (block,) = [block for block in blocks_of(page) if block.file == file]
    assert len(block.code.splitlines()) <= 25

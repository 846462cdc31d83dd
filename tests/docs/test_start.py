"""Every block of the pages under start/ is run as a reader would."""

from pathlib import Path

import pytest

from tests.docs.reader import PAGES, QUICK, follow

OWN = [page for page in PAGES if page.startswith("start/")]


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.mark.parametrize("page", [pytest.param(page, marks=[] if page in QUICK else [pytest.mark.slow]) for page in OWN])
def test_what_a_page_tells_to_type_works_and_prints_what_it_says(page: str, tmp_path: Path, kept: Path) -> None:
    follow(page, tmp_path, kept)

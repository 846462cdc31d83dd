"""Writes all tables anew: ``python -m scripts.tables``."""

from scripts.tables.pages import PAGES, filled

if __name__ == "__main__":
    for path in PAGES:
        path.write_text(filled(path.read_text()))

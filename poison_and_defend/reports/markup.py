"""HTML that opens from disk and asks nothing of the network; everything that goes in is escaped here."""

import base64
import html
from collections.abc import Sequence
from typing import Any, NamedTuple

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; color: #222; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #ddd; } th { text-align: left; vertical-align: bottom; }
td { white-space: nowrap; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.hit { color: #b2433a; font-weight: 600; } td.miss { color: #2c7a4b; }
img { max-width: 100%; } pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; font-size: 13px; }
figure { margin: 1.5rem 0; } figcaption { color: #555; font-size: 14px; } details { margin: 1rem 0; }
"""


class Cell(NamedTuple):
    """Text of a cell, its style, and where it leads."""

    text: str
    kind: str = ""
    href: str = ""


def escape(value: Any) -> str:
    """Text as it is safe in an element or a quoted attribute."""
    return html.escape(str(value))


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table; it scrolls by itself where the window is too narrow."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    text = f'<a href="{escape(cell.href)}">{escape(cell.text)}</a>' if cell.href else escape(cell.text)
    return f'<td class="{escape(cell.kind)}">{text}</td>'


def picture(caption: str, png: bytes) -> str:
    """A figure with the image inside the page."""
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def document(title: str, body: str, width: int = 72) -> str:
    """A whole page.

    Args:
        body: HTML, already escaped.
        width: The widest that the page gets, in rem.
    """
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style></head>
<body style="max-width: {width}rem">
<h1>{escape(title)}</h1>
{body}
</body></html>
"""

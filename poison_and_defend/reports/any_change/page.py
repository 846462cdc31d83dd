"""One self-contained HTML page per certificate of any change."""

import json
from collections.abc import Callable
from typing import Any

from poison_and_defend.reports.any_change.records import NAMES, AnyChange, Vote
from poison_and_defend.reports.any_change.text import VOIDS, notes
from poison_and_defend.reports.markup import Cell, document, escape, picture, table


def render_any_change(title: str, result: AnyChange, figure: bytes, config: str) -> str:
    """The page.

    Args:
        result: ``any_change.json``.
        figure: PNG.
        config: Resolved configuration as YAML.
    """
    told = [f"{i['name']}: {i['origin']}, {i['detail']}" for i in result.ingredients]
    ingredients = "".join(f"<li>{escape(line)}</li>" for line in told)
    body = f"""{"".join(f"<p>{escape(text)}</p>" for text in notes(result))}
<h2>Certified accuracy against any change of k images</h2>
{_table(result, lambda vote: vote.certified)}
{picture("Certified accuracy against the number of poisons.", figure)}
<h2>Where labels may change, too</h2>
<p>To any of the {result.classes} classes, whose number was known beforehand, and not counted by the labels.</p>
{_table(result, lambda vote: vote.with_labels)}
<h2>Accuracy of these votes</h2>
<p>What withstands many poisons reads fewer images right where there are none: the vote for 1,000 is not the one for one.</p>
{_table(result, lambda vote: vote.accuracy)}
{_foretold(result)}
<h2>Assumed</h2>
<ul>{ingredients}</ul>
<h2>What voids it</h2>
<ul>{"".join(f"<li>{escape(line)}</li>" for line in VOIDS)}</ul>
<details><summary>Settings</summary>{_settings(result)}</details>
<details><summary>Configuration</summary><pre>{escape(config)}</pre></details>
<details><summary>Made with</summary><pre>{escape(json.dumps(result.provenance, indent=2))}</pre></details>"""
    return document(title, body)


def _foretold(result: AnyChange) -> str:
    if not result.labelled:
        return ""
    return f"<h2>What the reference foretold</h2>{_table(result, lambda vote: [share or 0.0 for share in vote.foretold])}"


def _table(result: AnyChange, column: Callable[[Vote], list[float]]) -> str:
    head = ["vote", *(f"k = {k:,}" for k in result.k)]
    lines = [[Cell(NAMES[vote.name]), *(Cell(f"{share:.1%}", "number") for share in column(vote))] for vote in result.shown()]
    return table(head, lines)


def _settings(result: AnyChange) -> str:
    head = ["vote", *(f"k = {k:,}" for k in result.k)]
    lines = [[Cell(NAMES[vote.name]), *(Cell(_told(rule)) for rule in vote.rules)] for vote in result.shown()]
    return table(head, lines)


def _told(rule: dict[str, Any]) -> str:
    own = [f"{name} {value}" for name, value in rule.items() if name != "family"]
    return f"{rule['family']}: {', '.join(own)}" if own else str(rule["family"])

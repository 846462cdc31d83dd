"""One self-contained HTML page per certificate."""

import json
from collections.abc import Sequence
from typing import Any

from poison_and_defend.reports.certificate.records import Certificate, Certified
from poison_and_defend.reports.certificate.text import assumptions, eps_label, notes, voids
from poison_and_defend.reports.certificate.usual_budgets import LEGEND, USUAL_BUDGETS
from poison_and_defend.reports.markup import Cell, document, escape, picture, table


def _percent(share: float) -> Cell:
    return Cell(f"{share:.1%}", "number")


def _best_table(result: Certificate) -> str:
    head = ["poisons", *(f"{eps_label(e)}" for e in result.eps)]
    lines = [
        [Cell(f"{k:,}", "number"), *(_best_cell(cell, result.settings) for cell in row)]
        for k, row in zip(result.k, result.best, strict=True)
    ]
    return table(head, lines)


def _bagging(result: Certificate) -> str:
    if not result.bagging:
        return ""
    head = ["poisons, any change", *(r.label for r in result.bagging)]
    lines = [
        [Cell(f"{k:,}", "number"), *(_percent(r.table_all_settings[number][-1]) for r in result.bagging)]
        for number, k in enumerate(result.k)
    ]
    return f"<h2>The same vote without noise</h2><p>Where it is as high, noise buys nothing.</p>{table(head, lines)}"


def _best_cell(cell: dict[str, Any], settings: Sequence[Certified]) -> Cell:
    where = f" ({settings[cell['setting']].label})" if len(settings) > 1 and cell["certified"] else ""
    return Cell(f"{cell['certified']:.1%}{where}", "number")


def _settings_table(result: Certificate) -> str:
    keys = ("accuracy", "voter_accuracy", "abstained", "certified_unattacked")
    radii = {
        "median_radius": "median R",
        "largest_radius": "largest R",
        "median_paper_radius": "median R, paper's bound",
        "largest_paper_radius": "largest R, paper's bound",
    }
    head = ["setting", "models", "vote right", "one model right", "abstained", "certified unattacked", *radii.values(), "s"]
    lines = [
        [
            Cell(r.label),
            Cell(f"{r.models:,}", "number"),
            *(_percent(getattr(r, key)) for key in keys),
            *(Cell(f"{getattr(r, key):.3f}", "number") for key in radii),
            Cell(f"{r.seconds:.0f}", "number"),
        ]
        for r in result.settings
    ]
    return table(head, lines)


def _membership(result: Certificate) -> str:
    rows = [r for r in [*result.settings, *result.bagging] if r.membership]
    if not rows:
        return ""
    head = ["setting", "images", *(f"k = {k:,}" for k in result.k)]
    lines = [[Cell(r.label), Cell(kind), *map(_percent, shares)] for r in rows for kind, shares in (r.membership or {}).items()]
    return (
        "<h2>Where images come and go</h2><p>Certified accuracy where k images are added, removed, or become any others with "
        "any labels. Every image was drawn by itself, so that models that drew none of them vote as before.</p>"
        f"{table(head, lines)}"
    )


def _full_table(result: Certificate) -> str:
    head = ["setting", "poisons", "eps", "votes needed", "certified, each image", "certified, all images at once"]
    lines = []
    for r in result.settings:
        for i, k in enumerate(result.k):
            for j, eps in enumerate(result.eps):
                own = [Cell(r.label), Cell(f"{k:,}", "number"), Cell(eps_label(eps), "number")]
                needed = Cell(f"above {r.needed[i][j]:.2%}", "number")
                lines.append([*own, needed, _percent(r.table[i][j]), _percent(r.table_all_images[i][j])])
    return table(head, lines)


def _forecast_table(result: Certificate) -> str:
    rows = result.forecasts
    head = ["setting", "one model right", "votes needed", "s a model", *(f"N = {n:,}" for n in rows[0].models)]
    lines = [
        [
            Cell(r.label),
            _percent(r.voter_accuracy),
            Cell(f"above {r.needed:.2%}", "number"),
            Cell("" if r.seconds_per_model is None else f"{r.seconds_per_model:.3f}", "number"),
            *map(_percent, r.expected),
        ]
        for r in rows
    ]
    return table(head, lines)


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def render_certificate(title: str, result: Certificate, figures: dict[str, tuple[str, bytes]], config: str) -> str:
    """The page.

    Args:
        result: ``certificate.json``.
        figures: Caption and PNG by name: ``radius``, ``trade_off`` and one a setting.
        config: Resolved configuration as YAML.
    """
    shown = {name: picture(*figure) for name, figure in figures.items()}
    maps = "".join(html for name, html in shown.items() if name not in ("radius", "trade_off"))
    usual = "; ".join(f"{b.attacks}: {b.source}" for b in USUAL_BUDGETS)
    planner = ""
    if result.forecasts:
        planner = (
            "<h2>Choice of the operating point</h2><p>Each image's pilot votes and Jeffreys' prior foretell what N "
            "models would certify. A forecast, not a bound; pilots are not counted in the certificate.</p>"
            f"{shown.get('trade_off', '')}{_forecast_table(result)}"
        )
    goal = f"k poisons of at most eps each ({result.norm})"
    goal += f" and a trigger of {result.trigger}" if result.trigger else ""
    body = f"""{"".join(f"<p>{escape(text)}</p>" for text in notes(result))}
<h2>Certified accuracy against {escape(goal)}</h2>
{_best_table(result)}
{_bagging(result)}
{maps}
<p>{escape(LEGEND)} {escape(usual)}.</p>
<h2>Certified accuracy against a change of the whole set</h2>
<p>R bounds the l2 norm of the change of all images together: k poisons of l2 norm eps each need eps times the square root of
k. The same votes give both certificates. Dashed: the paper's bound, which takes every model to see all images; a subsample
misses most of a change that is spread out, and is credited for it in the solid lines.</p>
{shown.get("radius", "")}
{_settings_table(result)}
{_membership(result)}
{planner}
<h2>Assumed</h2>
{_list(assumptions(result))}
<h2>What voids it</h2>
{_list(voids(result))}
<details><summary>Every setting, every budget</summary>{_full_table(result)}</details>
<details><summary>Configuration</summary><pre>{escape(config)}</pre></details>
<details><summary>Made with</summary><pre>{escape(json.dumps(result.provenance, indent=2))}</pre></details>"""
    return document(title, body)

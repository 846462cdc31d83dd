"""One self-contained HTML page per experiment: opens from disk, asks nothing of the network."""

import base64
import html
import json
from collections.abc import Sequence
from typing import Any

from reports.figures import defense_label

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; }
th { text-align: left; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.hit { color: #b2433a; font-weight: 600; } td.miss { color: #2c7a4b; }
img { max-width: 100%; } pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; font-size: 13px; }
figure { margin: 1.5rem 0; } figcaption { color: #555; font-size: 14px; } details { margin: 1rem 0; }
"""


def _escape(value: Any) -> str:
    return html.escape(str(value))


def _table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]]) -> str:
    top = "".join(f"<th>{_escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f'<td class="{kind}">{_escape(v)}</td>' for v, kind in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _summary_table(rows: Sequence[dict[str, Any]]) -> str:
    return _table(
        ["attack", "defence", "sigma", "attack success", "95 % interval", "clean test accuracy"],
        [
            [
                (row["attack"], ""),
                (defense_label(row["defense"]), ""),
                (f"{row['sigma']:g}" if row["sigma"] else "", "number"),
                (f"{row['successes']} of {row['n']} = {row['success_rate']:.0%}", "number"),
                (f"{row['ci_low']:.1%} to {row['ci_high']:.1%}", "number"),
                (f"{row['clean_accuracy']:.2%}", "number"),
            ]
            for row in rows
        ],
    )


def _setups_table(records: Sequence[dict[str, Any]]) -> str:
    defenses = list(dict.fromkeys(record["defense"] for record in records))
    lines = []
    for setup in dict.fromkeys(record["setup"] for record in records):
        own = {record["defense"]: record for record in records if record["setup"] == setup}
        first = next(iter(own.values()))
        line = [(str(setup), "number"), (f"{first['target_index']}", "number")]
        line += [(str(first["target_label"]), "number"), (str(first["adversarial_label"]), "number")]
        for name in defenses:
            record = own[name]
            line.append((f"read as {record['predicted']}", "hit" if record["success"] else "miss"))
        lines.append(line)
    head = ["setup", "test image", "true class", "wanted by the attacker", *map(defense_label, defenses)]
    return _table(head, lines)


def render_page(
    title: str,
    summary: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    figures: Sequence[tuple[str, bytes]],
    config: str,
    provenance: dict[str, Any],
) -> str:
    """The page.

    Args:
        figures: Caption and PNG bytes, in order; the first stands above the tables.
        config: Resolved configuration as YAML.
        provenance: Revision, versions, hardware.
    """

    def show(caption: str, png: bytes) -> str:
        data = base64.b64encode(png).decode()
        image = f'<img alt="{_escape(caption)}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}<figcaption>{_escape(caption)}</figcaption></figure>"

    shown = [show(caption, png) for caption, png in figures]
    first = records[0]
    text = (
        f"{first['num_poisons']} correctly labelled training images were changed by at most "
        f"{first['eps'] * 255:.4g}/255 ({first['norm']}) in each of {summary[0]['n']} randomly drawn setups, "
        "so that one chosen test image is misread."
        if first["norm"] == "linf"
        else f"{first['num_poisons']} correctly labelled training images were changed by at most {first['eps']:g} "
        f"(l2, pixels in [0, 1]) in each of {summary[0]['n']} setups, so that one chosen test image is misread."
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{_escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{_escape(title)}</h1>
<p>{_escape(text)} Success means that the target is read as exactly the class that the attacker wants.
A rate from {summary[0]["n"]} setups is uncertain: the interval says how much. This is a measurement against these
attacks, not a certificate against all.</p>
{"".join(shown[:1])}
{_summary_table(summary)}
{"".join(shown[1:])}
<h2>Every setup</h2>
{_setups_table(records)}
<details><summary>Configuration</summary><pre>{_escape(config)}</pre></details>
<details><summary>Made with</summary><pre>{_escape(json.dumps(provenance, indent=2))}</pre></details>
</body></html>
"""

"""Draws the figures of benchmarks/quality.py as one HTML page: a table and a picture for each file of figures.

python benchmarks/page.py benchmarks/figures/*.json --out docs/results.html
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.2rem .7rem;text-align:right}
th:first-child,td:first-child{text-align:left}thead th{border-bottom:2px solid #888}tr.peer td{font-style:italic}
pre{background:#f2f2f2;padding:.6rem;overflow:auto}svg{max-width:100%;height:auto}text{font:12px system-ui,sans-serif}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#2a2a2a}text{fill:#ddd}}
"""
WIDTH, LEFT, ROW = 760, 230, 22


def section(found: Mapping[str, Any]) -> str:
    """Return one file's figures: heading, command, table, and a picture of the last mark."""
    marks, loops = found["marks"], found["contestants"]
    heads = "".join(f"<th>{escape(str(mark))} {escape(found['unit'])}</th>" for mark in marks)
    rows = []
    for name, figures in loops.items():
        cells = "".join(f"<td>{_cell(figures.get(str(mark)))}</td>" for mark in marks)
        kind = ' class="peer"' if name.startswith("Optuna") else ""
        rows.append(
            f"<tr{kind}><td>{escape(name)}</td><td>{figures['seeds']}</td>{cells}"
            f"<td>{figures['milliseconds']:.2f}</td></tr>"
        )
    return (
        f"<h2>{escape(found['title'])}</h2><p>{escape(found['about'])}</p><pre>{escape(found['command'])}</pre>"
        f"<table><thead><tr><th>search</th><th>seeds</th>{heads}<th>CPU ms a trial</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>{_picture(found, str(found['drawn']))}"
    )


def _cell(figures: list[list[float]] | None) -> str:
    return "-" if figures is None else " / ".join(f"{mean:.2f} ± {spread:.2f}" for mean, spread in figures)


def _picture(found: Mapping[str, Any], mark: str) -> str:
    """Return means with 95 % intervals of the mean at one mark, best first."""
    rows = []
    for name, figures in found["contestants"].items():
        if mark in figures:
            mean, spread = figures[mark][-1]
            rows.append((mean, 1.96 * spread / figures["seeds"] ** 0.5, name))
    rows.sort(reverse=True)
    low, high = min(mean - half for mean, half, _ in rows), max(mean + half for mean, half, _ in rows)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 70) * (value - low) / span

    parts = [f"<title>{escape(found['drawn_as'])}: mean and 95 % interval of the mean</title>"]
    for place, (mean, half, name) in enumerate(rows):
        y = 16 + ROW * place
        mark_of = "M-5 0L0-5L5 0L0 5Z" if name.startswith("Optuna") else "M-4-4h8v8h-8Z"
        parts.append(
            f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
            f'<path d="M{x(mean - half):.1f} {y}H{x(mean + half):.1f}" stroke="#888" stroke-width="2"/>'
            f'<path d="{mark_of}" transform="translate({x(mean):.1f} {y})" fill="#1668b4"/>'
            f'<text x="{WIDTH - 60}" y="{y + 4}">{mean:.2f}</text>'
        )
    height = 16 + ROW * len(rows)
    return f'<p>{escape(found["drawn_as"])}:</p><svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="+", type=Path, help="files of benchmarks/quality.py --json")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    sections = "".join(section(json.loads(path.read_text())) for path in given.figures)
    given.out.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>automl: how good the searches are</title><style>{STYLE}</style>"
        "<h1>How good the searches are</h1><p>Mean ± standard deviation over seeds; in italics and as diamonds the "
        f"peer in its own loop. Measured on 2 shared cores.</p>{sections}</html>\n"
    )


if __name__ == "__main__":
    main()

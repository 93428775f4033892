"""A graph as SVG: boxes, lines and tips, coloured by the page that it stands in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from automl.drawing.layout import LONGEST, Edge, Layout, lay_out
from automl.drawing.svg import box, path, picture


def draw(edges: Sequence[Edge], name: str) -> Markup | None:
    """Return a graph as SVG; None where it is empty, too large to be read, or has a cycle."""
    layout = lay_out(edges)
    if layout is None:
        return None
    told = (f"{source} to {target}" + (f" by {label}" if label else "") for source, target, label in edges)
    title = f"the {name} cell: {'; '.join(told)}"
    return picture("cell", layout.width, layout.height, title, shapes(layout), natural=True)


def shapes(layout: Layout) -> Iterator[str]:
    """Yield what the drawing consists of: lines of class edge, tips, and boxes of class op or state."""
    for line in layout.lines:
        numbers = [f"{x:.1f} {y:.1f}" for x, y in line.curve]
        yield path("edge", f"M{numbers[0]}C{' '.join(numbers[1:])}L{line.end[0]:.1f} {line.end[1]:.1f}")
        if line.has_tip:
            yield path("tip", "M-7-4L0 0l-7 4z" if line.ahead[0] else "M-4-7L0 0l4-7z", at=line.end)
    for one in layout.boxes:
        kind, corner = ("op", 4.0) if one.is_operation else ("state", one.height / 2)
        yield box(kind, one.x, one.y, one.width, one.height, corner, one.words, LONGEST)

"""A picture of an architecture's graphs: a file that reads well on light pages and on dark ones."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from automl.drawing.graph import shapes
from automl.drawing.layout import LONGEST, WIDTH, Box, Edge, Layout, Line, lay_out
from automl.drawing.svg import text
from automl.errors import BadInput, printable
from automl.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Graphs = Mapping[str, Sequence[Edge]]
FORMS = (".svg", ".png")
_INK, _LINE, _STATE, _RIM, _OPERATION, _EDGE = "#1d2321", "#7a8784", "#d5ebe7", "#0f6b62", "#f7f9f8", "#a9b4b1"
_STYLE = f"""
text{{font:12px system-ui,-apple-system,"Segoe UI",Roboto,Arial,sans-serif;fill:{_INK};text-anchor:middle}}
.name{{font-size:14px;font-weight:650;fill:{_LINE};text-anchor:start}}
.edge{{fill:none;stroke:{_LINE};stroke-width:1.4}}.tip{{fill:{_LINE}}}
.state rect{{fill:{_STATE};stroke:{_RIM};stroke-width:1.3}}.state text{{font-weight:620}}
.op rect{{fill:{_OPERATION};stroke:{_EDGE}}}
"""
_HEAD = 26.0  # of a graph's name, in pixels
_APART = 32.0  # between two graphs
_MARGIN = 8.0
_SCALE = 2  # pixels of a PNG for one of the layout


class Placed(NamedTuple):
    """A graph's name and its layout, with the upper left corner of both."""

    name: str
    layout: Layout
    x: float
    y: float


def write(path: Path, graphs: Graphs) -> None:
    """Write a picture of graphs, by the end of the file's name an SVG or a PNG, whole or not at all.

    Raises BadInput for another ending, for a folder that is not there, for graphs that cannot be drawn, and for a PNG
    where matplotlib is missing; StorageError where the file cannot be written.
    """
    form = path.suffix.lower()
    if form not in FORMS:
        raise BadInput(f"--picture {printable(str(path))} is of no known form: give a name that ends in .svg or .png")
    if path.is_dir() or not path.parent.is_dir():
        raise BadInput(f"--picture {printable(str(path))} cannot be written: give a file in a folder that exists")
    write_whole(path, svg(graphs).encode() if form == ".svg" else png(graphs))


def svg(graphs: Graphs) -> str:
    """Return the picture as the text of an SVG file; raises BadInput where nothing can be drawn."""
    placed = _arranged(graphs)
    width, height = _extent(placed)
    parts = []
    for name, layout, x, y in placed:
        parts.append(text("name", x, y + 13, name))
        parts.append(f'<g transform="translate({x:.1f} {y + _HEAD:.1f})">{"".join(shapes(layout))}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}"><style>{_STYLE}</style>{"".join(parts)}</svg>\n'
    )


def png(graphs: Graphs) -> bytes:
    """Return the picture as a PNG file; raises BadInput where nothing can be drawn, or without matplotlib."""
    placed = _arranged(graphs)
    if importlib.util.find_spec("matplotlib") is None:
        raise BadInput(
            "a PNG needs an optional part that is not installed: pip install 'automl-lightweight[compare]', "
            "or give a file that ends in .svg"
        )
    import matplotlib
    from matplotlib.figure import Figure

    width, height = _extent(placed)
    with matplotlib.rc_context({"font.family": "DejaVu Sans"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=(width / 72, height / 72), dpi=72 * _SCALE, facecolor="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for name, layout, x, y in placed:
            _words(axes, x, y + 9, name, size=13, color=_LINE, ha="left", weight="bold")
            for line in layout.lines:
                _line(axes, line, x, y + _HEAD)
            for box in layout.boxes:
                _box(axes, box, x, y + _HEAD)
        file = io.BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def _arranged(graphs: Graphs) -> list[Placed]:
    """Place the graphs beside each other while there is room on the page, else below."""
    laid = [(name, layout) for name, edges in graphs.items() if (layout := lay_out(edges)) is not None]
    if not laid:
        raise BadInput("there is nothing to draw: the architecture has no graph, or one that is too large to be read")
    placed: list[Placed] = []
    x, y, tallest = _MARGIN, _MARGIN, 0.0
    for name, layout in laid:
        width, height = _room(name, layout)
        if x > _MARGIN and x + width > WIDTH + _MARGIN:
            x, y, tallest = _MARGIN, y + tallest + _APART, 0.0
        placed.append(Placed(name, layout, x, y))
        x, tallest = x + width + _APART, max(tallest, height)
    return placed


def _room(name: str, layout: Layout) -> tuple[float, float]:
    return max(layout.width, 9.0 * len(name)), layout.height + _HEAD


def _extent(placed: Sequence[Placed]) -> tuple[float, float]:
    rooms = [_room(one.name, one.layout) for one in placed]
    width = max(one.x + room[0] for one, room in zip(placed, rooms, strict=True))
    return width + _MARGIN, max(one.y + room[1] for one, room in zip(placed, rooms, strict=True)) + _MARGIN


def _line(axes: Axes, line: Line, x: float, y: float) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Outline

    points = [(x + right, y + down) for right, down in (*line.curve, line.end)]
    codes = [Outline.MOVETO, *[Outline.CURVE4] * 3, Outline.LINETO]
    axes.add_patch(PathPatch(Outline(points, codes), fill=False, edgecolor=_LINE, linewidth=1.4))
    if line.has_tip:
        (end_x, end_y), (right, down) = points[-1], line.ahead
        back = (end_x - 7 * right, end_y - 7 * down)
        corners = [(end_x, end_y), *((back[0] + side * down, back[1] + side * right) for side in (-4, 4))]
        axes.add_patch(Polygon(corners, facecolor=_LINE, edgecolor="none"))


def _box(axes: Axes, box: Box, x: float, y: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    fill, rim, corner = (_OPERATION, _EDGE, 4.0) if box.is_operation else (_STATE, _RIM, box.height / 2)
    style = f"round,pad=0,rounding_size={min(corner, box.width / 2)}"
    place = (x + box.x, y + box.y)
    axes.add_patch(FancyBboxPatch(place, box.width, box.height, boxstyle=style, facecolor=fill, edgecolor=rim))
    middle = place[0] + box.width / 2, place[1] + box.height / 2
    _words(axes, *middle, box.words, size=11, color=_INK, ha="center")


def _words(axes: Axes, x: float, y: float, words: str, **look: Any) -> None:
    cut = printable(words if len(words) <= LONGEST else words[: LONGEST - 1] + "…")
    axes.text(x, y, cut, va="center_baseline", parse_math=False, **look)

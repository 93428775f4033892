"""The few shapes that drawings are made of; colours come from the page, by class."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from automl.drawing.markup import shown


def path(kind: str, shape: str, title: str = "", at: tuple[float, float] | None = None) -> str:
    """Return a path, moved to a place if one is given, with a title that shows under the mouse."""
    place = "" if at is None else f' transform="translate({at[0]:.1f} {at[1]:.1f})"'
    end = f"><title>{shown(title, 200)}</title></path>" if title else "/>"
    return f'<path class="{kind}"{place} d="{shape}"{end}'


def text(kind: str, x: float, y: float, words: str, *, longest: int = 60, note: str = "") -> str:
    """Return a line of text, and after it a note in a lighter hand."""
    after = f'<tspan class="note" dx="8">{shown(note, longest)}</tspan>' if note else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{shown(words, longest)}{after}</text>'


def box(kind: str, x: float, y: float, width: float, height: float, corner: float, words: str, longest: int) -> str:
    """Return a box around its words, its upper left corner at the place."""
    return (
        f'<g class="{kind}"><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{corner:.1f}"/>'
        f"{text('inside', x + width / 2, y + height / 2 + 4, words, longest=longest)}</g>"
    )


def picture(
    kind: str, width: float, height: float, title: str, parts: Iterable[str], *, natural: bool = False
) -> Markup:
    """Return the whole drawing: as wide as there is room, or in its natural size."""
    size = f' width="{width:.0f}" height="{height:.0f}"' if natural else ""
    inside = f"<title>{shown(title, 5_000)}</title>{''.join(parts)}"
    return Markup(  # noqa: S704 - the parts are numbers, words of this package, and what `shown` has escaped
        f'<svg class="{kind}" role="img" viewBox="0 0 {width:.0f} {height:.0f}"{size}>{inside}</svg>'
    )

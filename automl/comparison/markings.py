"""Text that is safe in TeX, Markdown and CSV: every name is data, whatever it holds."""

from __future__ import annotations

import re

from automl.errors import printable

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def tex(text: str) -> str:
    """Return the text as TeX that shows it."""
    return "".join(_TEX.get(sign, sign) for sign in printable(text))


def markdown(text: str) -> str:
    """Return the text as Markdown that shows it, also in a cell of a table: no markup, no link, no mention."""
    return re.sub(r"([\\`*_{}\[\]<>&|#~!$:@])", r"\\\1", printable(text))


def cell(text: str) -> str:
    """Return the text as a cell of CSV that no spreadsheet takes for a formula."""
    shown = printable(text)
    return f"'{shown}" if shown.lstrip()[:1] in tuple("=+-@") else shown

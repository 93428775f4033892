"""Text that is safe in a page: every name is data, whatever it holds."""

from __future__ import annotations

from markupsafe import Markup, escape

from automl.errors import printable


def shown(value: object, longest: int = 1_000) -> Markup:
    """Return a value as one line of markup: control characters spelt out, cut where it is longer than that."""
    text = str(value)
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return escape(printable(text))


def block(text: str, longest: int = 8_000) -> Markup:
    """Return text of several lines as markup, its middle left out where it is longer than that."""
    if len(text) > longest:
        head, tail = longest // 4, longest - longest // 4
        text = f"{text[:head]}\n… {len(text) - longest:,} characters left out …\n{text[-tail:]}"
    return escape("\n".join(printable(line.replace("\t", "    ")) for line in text.split("\n")))


def short(number: float) -> str:
    """Return a number as people say it: 412k, 1.25M, 0.941, 17."""
    size = abs(number)
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit * 0.9995:
            return f"{number / limit:.3g}{unit}"
    if size and size < 1e-4:
        return f"{number:.2e}"
    return f"{number:,.0f}" if number == int(number) and size >= 10 else f"{number:.4g}"

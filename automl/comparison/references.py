"""A bibliography of the components used, from the first line of each one's recipe: Authors, "Title", Venue Year."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from pathlib import Path

from automl.comparison.markings import tex
from automl.config import folder
from automl.errors import printable

_CITED = re.compile(r'# (?P<authors>[^"]+), "(?P<title>[^"]+)", (?P<venue>.+) (?P<year>\d{4})\.?')


def bibliography(components: Iterable[tuple[str, str]]) -> str:
    """Return BibTeX with an entry for each component, given by kind and name, whose recipe cites a paper.

    Authors are given as the recipe has them, by family name; of those without a paper there a comment tells.
    """
    texts: dict[str, tuple[str, str]] = {}  # by the entry: its key and what it is for
    missing = []
    for kind, name in components:
        match = _CITED.match(_first_line(kind, name))
        word = printable(f"{kind}={name}").replace("@", "(at)")  # BibTeX begins an entry at any @
        if match is None:
            missing.append(f"% {word}: its recipe cites no paper\n")
            continue
        authors = match["authors"].replace(" et al.", " and others").replace(" & ", " and ").replace(", ", " and ")
        entry = (
            f"  author = {{{tex(authors)}}},\n  title = {{{{{tex(match['title'])}}}}},\n"
            f"  howpublished = {{{tex(match['venue'])}}},\n  year = {{{match['year']}}}\n}}\n"
        )
        if entry in texts:
            texts[entry] = (texts[entry][0], f"{texts[entry][1]}, {word}")
            continue
        key = re.sub(r"[^a-z]", "", authors.split(" and ")[0].lower()) + match["year"]
        taken = {used for used, _ in texts.values()}
        key = next(one for one in (key, *(key + letter for letter in string.ascii_lowercase)) if one not in taken)
        texts[entry] = (key, word)
    return "\n".join([f"% {word}\n@misc{{{key},\n{entry}" for entry, (key, word) in texts.items()] + missing)


def _first_line(kind: str, name: str) -> str:
    files: dict[str, Path] = {path.stem: path for path in (folder() / kind).glob("*.yaml")}
    return files[name].read_text().partition("\n")[0] if name in files else ""

"""Whatever a file or a word holds is read, or refused by our own error: no traceback, no hang, nothing written."""

from __future__ import annotations

import pytest
from fuzz import READERS, fuzz

EXAMPLES = {
    "config": 60,
    "safetensors": 100,
    "settings": 40,
    "report of a journal": 60,
    "report of a summary": 60,
    "description": 60,
}


NEVER = {"recorded arrays"}  # too large to be made of whole


@pytest.mark.parametrize("name", READERS)
def test_any_input_is_read_or_refused(name, tmp_path):
    found = fuzz(name, EXAMPLES.get(name, 150), tmp_path)
    assert found[False] > 0
    assert found[True] > 0 or name in NEVER

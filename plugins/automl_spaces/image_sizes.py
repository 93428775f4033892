"""How small images may be for a network that halves their size again and again."""

from __future__ import annotations

from automl import BadInput, Task


def check_size(space: str, task: Task, halvings: int, reductions: int) -> None:
    """Raise BadInput for images too small for so many halvings, of which so many are the reductions of the space."""
    least = max(8, 2**halvings)  # below 8 the largest windows, of 7 x 7, see mostly what is beyond the edge
    fewer = "fewer space.reductions" if least > 8 and reductions else None
    check_side(f"{space} with {reductions} reductions", task, least, fewer)


def check_stages(space: str, task: Task, stages: int, fewer: str | None = None) -> None:
    """Raise BadInput for images too small for so many stages, of which all but the first halve the size."""
    check_side(f"{space} with {stages} stages", task, 2 ** (stages - 1), fewer)  # one pixel is left in the last stage


def check_side(space: str, task: Task, least: int, instead: str | None = None) -> None:
    """Raise BadInput for images with a side of less than so many pixels, and say what may be given ``instead``."""
    height, width = task.input[1:]
    if min(height, width) < least:
        other = f" or {instead}" if instead else ""
        raise BadInput(
            f"space {space} needs images of at least {least} x {least} pixels, and these are {height} x {width}: "
            f"give task.size={least}{other}"
        )

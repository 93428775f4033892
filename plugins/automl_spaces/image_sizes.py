"""How small images may be for a network that halves their size again and again."""

from __future__ import annotations

from automl import BadInput, Task


def check_size(space: str, task: Task, halvings: int, reductions: int) -> None:
    """Raise BadInput for images too small for so many halvings, of which so many are the reductions of the space."""
    least = max(8, 2**halvings)  # below 8 the largest windows, of 7 x 7, see mostly what is beyond the edge
    height, width = task.input[1:]
    if min(height, width) < least:
        fewer = " or fewer space.reductions" if least > 8 and reductions else ""
        raise BadInput(
            f"space {space} with {reductions} reductions needs images of at least {least} x {least} pixels, "
            f"and these are {height} x {width}: give task.size={least}{fewer}"
        )


def check_stages(space: str, task: Task, stages: int) -> None:
    """Raise BadInput for images too small for so many stages, of which all but the first halve the size."""
    least = 2 ** (stages - 1)  # pixels of a side: one is left in the last stage
    height, width = task.input[1:]
    if min(height, width) < least:
        raise BadInput(
            f"space {space} with {stages} stages needs images of at least {least} x {least} pixels, and these are "
            f"{height} x {width}: give task.size={least}"
        )

"""How the network found stands against the baseline and the trials, and how sure that is."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from markupsafe import Markup

from automl import Objective, Trial
from automl_trackers import plots
from automl_trackers.sheet import Sheet, wilson


def interval(sheet: Sheet) -> tuple[float, float] | None:
    """Return the 95 % interval of the accuracy on the test images."""
    accuracy, images = sheet.number("test", "accuracy"), _images(sheet)
    if accuracy is None or not images or not 0 <= accuracy <= 1:
        return None
    return wilson(accuracy, images)


def comparison(sheet: Sheet, finished: Sequence[Trial], best: Trial | None, objective: Objective) -> Markup | None:
    """Return the accuracies next to each other: of the network found, the baseline, and the trials if one is best."""
    rows = []
    accuracy, baseline = sheet.number("test", "accuracy"), sheet.number("baseline", "accuracy")
    if accuracy is not None:
        rows.append(plots.Row("network found", accuracy, "test, 95 % interval", interval(sheet)))
    if baseline is not None:
        rows.append(plots.Row(sheet.text("baseline", "name") or "baseline", baseline, "test, same images"))
    if not rows or objective.metric != "accuracy" or best is None:
        return plots.comparison(rows, "accuracy compared") if len(rows) > 1 else None
    count = f"{len(finished):,} trials, validation"
    note = "validation" if best.reports[-1].fidelity == 1 else "validation, partly trained"
    rows.append(plots.Row(f"best trial ({best.number})", best.metrics["accuracy"], note))
    rows.append(plots.Row("median trial", statistics.median(trial.metrics["accuracy"] for trial in finished), count))
    return plots.comparison(rows, "accuracy compared")


def words(sheet: Sheet) -> str | None:
    """Return in a sentence how the network stands against the baseline."""
    accuracy, baseline = sheet.number("test", "accuracy"), sheet.number("baseline", "accuracy")
    likely = interval(sheet)
    if accuracy is None or baseline is None:
        return None
    name = sheet.text("baseline", "name") or "the baseline"
    points = 100 * (accuracy - baseline)
    if points == 0:
        return f"The network found is as accurate as {name} on the same test images ({accuracy:.3f})."
    direction = "more" if points > 0 else "less"
    stated = f"The network found is {abs(points):.1f} points {direction} accurate than {name} on the same test images"
    if likely is None:
        return f"{stated}."
    if likely[0] <= baseline <= likely[1]:
        return f"{stated}; that lies within the 95 % interval, so it may be chance."
    return f"{stated}, which is more than the 95 % interval allows for chance."


def _images(sheet: Sheet) -> int:
    return int(sheet.number("test", "images") or sheet.number("data", "test") or 0)

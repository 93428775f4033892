"""How many channels a width multiplier leaves."""

from __future__ import annotations


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Return the multiple of the divisor nearest to so many channels, and no less than nine tenths of them.

    At least the divisor itself (the rule of MobileNetV2's release; Sandler et al., 2018).
    """
    nearest = max(divisor, int((channels + divisor / 2) // divisor) * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest

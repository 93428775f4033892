"""Draws graphs: those of a space's architectures, for the report, for pictures and in words."""

"""Building blocks of lightweight networks."""

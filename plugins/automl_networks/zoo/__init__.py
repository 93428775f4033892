"""Networks designed by hand, each a search space with few decisions or none."""

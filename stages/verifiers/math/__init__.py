"""Mathematical answers compared with a reference."""

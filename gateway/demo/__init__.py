"""The demo: a retail chain that a visitor understands at once."""

"""The router, the way of a write, and what they hand to each other."""

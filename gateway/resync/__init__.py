"""Routing every document again by another sync function, beside the routing that serves."""

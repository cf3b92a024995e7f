"""Pure values and rules: no I/O, no clock, nothing of ours imported but errors and limits."""

"""Channel-filtered changes: pages from the index, waking, running feeds."""

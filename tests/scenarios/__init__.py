"""Access that changes, as timelines that are told to the oracle, a real store and, over HTTP, a running gateway."""

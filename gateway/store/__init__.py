"""The metadata store: the protocol and its implementation on SQLite."""

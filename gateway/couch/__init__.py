"""The upstream: its protocol, the CouchDB client, batching and the revision cache."""

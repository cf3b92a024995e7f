"""Mango: selectors, `_find` requests and their answers, as CouchDB has them. Used on both sides of the upstream."""

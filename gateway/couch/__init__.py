"""The upstream: its protocol, the CouchDB client, batching and the revision cache.

`upstream.py` is what the rest of the gateway sees; `open.py` chooses the implementation from a URL. `client.py` is
CouchDB over HTTP, built from `address.py` (URL and credentials), `transport.py` (requests, retries, bounded answers),
`stream.py` (pass-through) and `feed.py` (the continuous changes feed). `batching.py` joins concurrent calls into bulk
requests over any `UpstreamDatabase`, `revision_cache.py` keeps bodies that were read.
"""

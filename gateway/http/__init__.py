"""The HTTP surface: parses and checks requests, calls `Database`, writes CouchDB's answers. Nothing else."""

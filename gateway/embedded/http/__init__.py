"""The HTTP face of the embedded server: CouchDB's paths, parameters and answers."""

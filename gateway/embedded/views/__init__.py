"""Map/reduce views: design documents, their indexes in the database's file, queries."""

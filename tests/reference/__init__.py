"""The pages of docs/ that are made from the route table. `make pages` writes them; a test says when they are old."""

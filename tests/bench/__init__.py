"""`make bench`: numbers of this machine, with the aims beside them."""

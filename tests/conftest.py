"""Its folder comes onto the path: what tests of host and agent share lies beside it."""

"""One file per use case, in the order of the walk."""

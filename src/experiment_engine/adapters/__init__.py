"""One folder per thing outside; they do not know each other."""

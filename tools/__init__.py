"""What maintainers run: the check before a release, and the pages that the code writes itself."""

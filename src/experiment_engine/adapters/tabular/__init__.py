"""Rows into files that other programs read."""

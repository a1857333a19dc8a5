"""Segment: its webhook destination."""

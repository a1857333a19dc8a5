"""Amplitude's JSON to our values; nobody else knows its words."""

"""The experiment engine: brings users back, sends once, and learns what works."""

__version__ = "0.1.0"

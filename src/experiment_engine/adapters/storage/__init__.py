"""The engine's tables and statements."""

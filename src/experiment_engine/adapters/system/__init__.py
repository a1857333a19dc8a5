"""Clock, chance, logs and metrics."""

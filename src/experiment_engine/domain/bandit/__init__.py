"""Which combo, and with what probability."""

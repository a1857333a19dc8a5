"""Pure decisions: no I/O, no clock, no hidden randomness; values in, values out."""

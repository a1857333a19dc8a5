"""Pure decisions: no I/O, no clock, no hidden randomness; values in, values out."""

# Values made for every event are msgspec Structs: they cost a third of a frozen dataclass.

"""How a person or a machine gets in: parse, call one use case, answer."""

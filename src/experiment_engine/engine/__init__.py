"""The use cases on their adapters, each in a transaction of its own or a few small ones."""

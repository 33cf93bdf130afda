"""The driver: carries out what the dataflow core says, and remembers it."""

"""The options of the commands: each stated once, as the field of a dataclass."""

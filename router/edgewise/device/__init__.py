"""The device as a source, and its state: memory, battery, temperature."""

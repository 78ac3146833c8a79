"""The device's quantized graph with a row per slot, on LiteRT."""

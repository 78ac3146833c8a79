"""Runs a `.tflite`: the library behind it, KV caches, prefix cache and prepared weights."""

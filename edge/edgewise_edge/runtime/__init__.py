"""Runs a `.tflite`: the library behind it, KV caches, and what is kept of earlier prompts."""

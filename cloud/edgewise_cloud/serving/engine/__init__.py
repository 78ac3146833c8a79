"""Continuous batching: slots, sequences, admission, and the thread that steps the model."""

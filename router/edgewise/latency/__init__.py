"""Predicts how long each source takes, from what was measured on it."""

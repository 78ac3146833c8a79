"""Predicted times: what was measured on each source, and what is learned from it."""

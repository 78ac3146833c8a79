"""Keras models: reading checkpoints, loading one by name, importing TensorFlow late."""

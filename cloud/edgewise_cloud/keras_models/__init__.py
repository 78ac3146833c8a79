"""Keras models: loading a checkpoint by name, saving one, importing TensorFlow late."""

"""A checkpoint made into a model folder: the graph, quantization, and what it costs in quality."""

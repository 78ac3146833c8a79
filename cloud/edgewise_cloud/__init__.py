"""edgewise_cloud: the full Keras GPT-2 behind gRPC, and the pipeline that feeds devices."""

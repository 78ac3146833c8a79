"""The cloud service: many requests at once on one Keras GPT-2, behind gRPC."""

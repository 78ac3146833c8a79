"""The cloud service: many requests at once on one Keras GPT-2, behind gRPC."""

import os

# Read when gRPC is imported. gRPC's own log holds text of callers' choice, line breaks included, and
# so could be made to show forged lines. Everything that a log needs is in ours.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

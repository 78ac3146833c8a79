"""The gRPC service: sockets, messages, and what answers them."""

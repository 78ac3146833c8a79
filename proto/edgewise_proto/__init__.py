"""edgewise_proto: the wire contract; import generation_pb2 and generation_pb2_grpc from it."""

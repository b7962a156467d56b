"""Between the wire and the stages: protobuf tensors to numpy arrays, and errors to gRPC statuses."""

"""The gRPC services of a node; they meet only through protos."""

"""From a torch network to what the vehicle runs: ONNX graphs, model bundles, TensorRT engines."""

"""Models for other programs: ONNX, int8, and checking that they answer as the original does."""

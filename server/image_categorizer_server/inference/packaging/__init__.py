"""Brings models into the repository: import, export to ONNX, quantization."""

"""Adds models to the repository: import from Hugging Face and ONNX, and quantization."""

"""From encoded bytes to confidences: the only house of Pillow, ONNX Runtime and torch.

content ─▶ decode ─▶ preprocess ─▶ micro-batcher ─▶ runtime ─▶ top predictions
           └── one call in the decode pool ──┘       └─ one thread a device
"""

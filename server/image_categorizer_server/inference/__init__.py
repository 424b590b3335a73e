"""From encoded bytes to confidences; the only floor that knows Pillow, ONNX Runtime, torch and transformers.

    content ─▶ decode ─▶ preprocess ─▶ micro-batcher ─▶ runtime ─▶ top predictions
               └── one call in the decode pool ──┘       └─ one thread a device
"""

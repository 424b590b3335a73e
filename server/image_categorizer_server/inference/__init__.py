"""From encoded bytes to confidences.  Only this package imports Pillow, ONNX Runtime and torch.

content ─▶ decode ─▶ preprocess ─▶ micro-batch ─▶ runtime ─▶ top predictions
           └─────── threads of the micro-batcher ───────┘
"""

"""The float graph: out of PyTorch, folded, simplified, and compared with its parent at every step."""

"""Accuracy and latency of a session; knows nothing of how the model was made."""

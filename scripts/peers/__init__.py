"""One file a peer: run by the Python of that peer's own environment, and so without edgecnn.

Each has ``prepare``, which converts and quantizes, and ``open_model``, which opens what came of it; ``serve`` answers
the requests of ``scripts/bench_peers``.
"""

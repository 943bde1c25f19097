"""The half of ``scripts/bench_peers`` that runs in edgecnn's own environment; the other is ``scripts/peers``."""

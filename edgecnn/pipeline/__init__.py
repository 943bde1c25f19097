"""The one way through: each stage alone, and :func:`edgecnn.pipeline.run.run` for all of them."""

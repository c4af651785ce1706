"""Demonstrations on disk (RLDS) to training batches, without TensorFlow."""

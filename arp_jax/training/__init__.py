"""Batches become parameters: train state, optimiser, sharding, checkpoints, metrics."""

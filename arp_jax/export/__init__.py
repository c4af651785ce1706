"""Trained policies as artifacts: `artifact` writes them, `runtime` runs them without flax.

Imports nothing by itself, so that `arp_jax.export.runtime` stays light.
"""

"""Tests of arp_jax.training."""

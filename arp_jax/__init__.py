"""arp_jax: from robot demonstrations to a moving robot, in JAX.

Importing this package imports nothing heavy; take what you need from its modules.
"""

__version__ = "0.1.0"

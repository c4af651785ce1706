"""What `python -m arp_jax.data.validate` looks for, and how it reports and repairs."""

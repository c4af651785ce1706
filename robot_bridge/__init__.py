"""What runs on the robot's computer: numpy, msgpack and arp_jax.specs; no jax, flax, TensorFlow."""

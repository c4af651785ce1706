"""Networks in flax.linen: parameters in, arrays out; no training loop, no data, no units."""

"""Push-T: push a T-shaped block onto its goal (Chi et al. 2023), as a pure JAX environment."""

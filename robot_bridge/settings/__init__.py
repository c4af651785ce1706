"""TOML files to frozen dataclasses, with one clear error for each mistake."""

"""The bridge's page and the server of it."""

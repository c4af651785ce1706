"""Pictures: capture threads, views, the synthetic camera of the twin."""

"""Policies: one file a paper, each `init / loss / act` over pytrees (see `base.py`)."""

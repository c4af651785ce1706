"""Closed-loop and open-loop evaluation, with statistics; see `rollout.py` for the main idea."""

"""Scripted and planning experts that produce demonstrations in the simulators."""

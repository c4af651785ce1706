"""Layouts in which people own recordings: readers, and what turns them into RLDS examples."""

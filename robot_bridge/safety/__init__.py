"""What no command gets past: limits, clearances, modes, watchdog, approach, refusal."""

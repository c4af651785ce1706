"""The control loop: clock, tick, what a person asks, status, the daemon that runs it all."""

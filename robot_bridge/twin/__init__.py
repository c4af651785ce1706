"""The arm in simulation: a robot, a dry run before motion, a check of replays."""

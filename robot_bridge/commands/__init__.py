"""The subcommands of `robot-bridge`, one a file; each has `add_flags(parser)` and `main(flags)`."""

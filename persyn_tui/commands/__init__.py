"""The subcommands of `persyn`, one file per object they act on. Heavy imports happen inside a command, so
that `persyn --help` answers at once."""

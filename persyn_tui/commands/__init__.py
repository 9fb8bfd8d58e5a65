"""The subcommands of `persyn`, one file per object that they act on; `persyn_tui.cli` names them all."""

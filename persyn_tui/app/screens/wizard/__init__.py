"""The new-job dialog: it writes a run file like any other."""

"""Before and after a run: the dry run, the summary, and exports."""

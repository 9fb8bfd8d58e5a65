"""One file a kind of prompt source; the file's name is the `source` in the run file."""

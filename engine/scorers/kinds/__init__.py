"""One file a scorer; the file's name is the kind in the run file."""

"""One file a kind of teacher; the file's name is the `backend` in the run file."""

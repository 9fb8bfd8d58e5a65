"""One file a kind of verifier; the file's name is the `verifier` in the run file."""

"""The strategies that are shipped, a file each; `engine.methods.strategy` says what a file declares."""

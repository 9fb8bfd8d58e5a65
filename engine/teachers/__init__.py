"""Teachers: how each kind is asked, at what cost, and the servers that some of them need."""

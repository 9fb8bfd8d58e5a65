"""Screen 7: events of all jobs, the store, the settings, the machine."""

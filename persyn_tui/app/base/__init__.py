"""What everything in the app may use: texts, keys, settings, colours; nothing here knows a screen or a job."""

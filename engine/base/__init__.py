"""What every floor may use: files that survive a power cut, text that is safe to print, keys, GPUs."""

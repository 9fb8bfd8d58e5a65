"""Screen 5: every stored response, filtered, sorted, searched; the responses to one prompt side by side; exports."""

"""A vLLM server as a process of ours: its command, its GPUs, its end."""

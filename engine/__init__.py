"""The headless engine: rewards, router, routing, generation and distillation over one store."""

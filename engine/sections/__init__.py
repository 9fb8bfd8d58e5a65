"""Sections of the run file: one module each; `engine.config` puts them together."""

"""Stored things as both front ends show them."""

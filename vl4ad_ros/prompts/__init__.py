"""Prompt sets and text encoders."""

"""Prompt sets: what the network is told that a road scene is made of."""

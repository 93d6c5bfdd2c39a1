"""The networks: the VL4AD mask network on a frozen CLIP image tower, and the small dense network."""

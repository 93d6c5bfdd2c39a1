"""Inference backends behind one small protocol, one file per backend."""

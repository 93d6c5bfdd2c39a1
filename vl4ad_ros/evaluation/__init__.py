"""Evaluation: benchmarks, folders and bags in; metrics, pictures and comparable result files out."""

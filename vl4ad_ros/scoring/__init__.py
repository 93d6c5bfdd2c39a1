"""The anomaly scores: definitions, NumPy reference, graph form, and the published map."""

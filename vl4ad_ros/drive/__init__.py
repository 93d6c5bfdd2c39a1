"""A procedural drive: a road scene with a moving camera and anomalies, whose ground truth is exact."""

"""Random-word CLIP: an anomaly detector that learned from text embeddings alone (docs/random_word.md)."""

"""Embeddings of a whole set of images; `python -m evaluation.embed` saves them."""
from evaluation.embed.embedding import DAMAGED, Tolerant, embed, embedded

__all__ = ["DAMAGED", "Tolerant", "embed", "embedded"]

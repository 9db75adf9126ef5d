"""Embeddings of a whole set of images; `python -m evaluation.embed` saves them."""
from evaluation.embed.embedding import DAMAGED, Tolerant, embed, embedded
from evaluation.embed.seen import trained_on

__all__ = ["DAMAGED", "Tolerant", "embed", "embedded", "trained_on"]

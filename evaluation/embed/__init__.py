"""Embeddings of a whole set of images; `python -m evaluation.embed` saves them."""
from evaluation.embed.embedding import DAMAGED, Tolerant, embed, embedded
from evaluation.embed.seen import notes_on_classes

__all__ = ["DAMAGED", "Tolerant", "embed", "embedded", "notes_on_classes"]

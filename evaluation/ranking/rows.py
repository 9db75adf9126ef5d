"""The rows of a search: what is multiplied, and what decides where products cannot."""
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Rows whose inner products rank, and the vectors whose distances these products stand for.

    product (N, E) float32; given (N, D) float32 or float64; offset (N,) float64. For a query row q
    and a gallery row g, -|q - g|^2 / 2 is their product less the offset of q. Where given is None,
    the product itself ranks. narrow: whether differences of the given vectors decide all that is
    close, not only what is near. cosine: whether the vectors have length one.
    """

    product: Tensor
    given: Tensor | None
    offset: Tensor
    narrow: bool = False
    cosine: bool = False

    def __len__(self) -> int:
        return len(self.product)

    def __getitem__(self, place: slice | Tensor) -> "Rows":
        given = None if self.given is None else self.given[place]
        return Rows(self.product[place], given, self.offset[place], self.narrow, self.cosine)

    def split(self, size: int) -> list["Rows"]:
        """The rows in blocks of `size`, as views."""
        return [self[start:start + size] for start in range(0, len(self), size)]


def plain_rows(product: Tensor) -> Rows:
    """Rows that rank by their inner product (N, D)."""
    product = product.float()
    return Rows(product, None, torch.zeros_like(product[:, 0], dtype=torch.float64))

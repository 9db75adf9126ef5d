"""The benchmarks, and how many images and classes each has by split."""
from datasets import cars196, cub200, in_shop, online_products

BENCHMARKS = {"cars196": cars196, "cub200": cub200, "in_shop": in_shop,
              "online_products": online_products, "sop": online_products}

# images and classes by split
Counts = dict[str, tuple[int, int]]


def known_counts(name: str) -> Counts:
    """The right numbers; none for a set that is no benchmark."""
    return getattr(BENCHMARKS.get(name), "COUNTS", {})


def wrong_counts(counts: Counts, known: Counts) -> list[str]:
    """Each number that differs from the known one."""
    wrong = []
    for split, numbers in counts.items():
        expected = known.get(split, numbers)
        for kind, number, right in zip(("images", "classes"), numbers, expected):
            if number != right:
                wrong.append(f"{split}: {number:,} {kind} instead of {right:,}")
    return wrong

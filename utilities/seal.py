"""Whether a file is one that this user's programs wrote, for formats that are not safe to read from strangers.

A checksum beside a file tells that it is whole, but who makes both can make them fit. A seal is a checksum with a key
that only this user has, made at random when it is first needed: `~/.cache/lm-metric/seal.key`, or below
$XDG_CACHE_HOME. Where the key cannot be kept, no file passes later.
"""
import hmac
import os
from pathlib import Path

from utilities.digest import sha256

LENGTH = 32   # bytes of the key


def seal(path: str | Path) -> str:
    """What the owner of the key, and nobody else, can say of the file's content; hexadecimal digits."""
    return hmac.digest(_key(), bytes.fromhex(sha256(path)), "sha256").hex()


def is_sealed(path: str | Path, by: str) -> bool:
    """Whether the file's content has this seal."""
    return hmac.compare_digest(seal(path).encode(), by.encode())


def _key() -> bytes:
    """The key of this user; one for this call alone where none can be kept."""
    try:
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lm-metric" / "seal.key"
        if not place.exists():
            _make(place)
        key = place.read_bytes()
    except (OSError, RuntimeError):   # RuntimeError: there is no home
        key = b""
    return key if len(key) == LENGTH else os.urandom(LENGTH)


def _make(place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as file:
        file.write(os.urandom(LENGTH))
    os.replace(temporary, place)

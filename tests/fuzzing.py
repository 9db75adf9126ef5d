"""What the fuzz tests share: one case within its time, and how a command may end."""
import contextlib
import random
import signal

# Seconds of a case.
LIMIT = 60
# Values that no option should have, or that stand at the edge of what one may have.
WRONG = [
    None, True, False, "", "x", "nan", "\n", "../..", "é" * 300, -1, 0, -0.5, 10**30, 1e308,
    float("nan"), float("inf"), [], [1], ["a", None], [[[[1]]]], {}, {"a": {"a": [{}]}},
]


@contextlib.contextmanager
def limited(case):
    """An error that names the case if it takes longer than LIMIT."""
    def stop(number, frame):
        raise TimeoutError(f"no end within {LIMIT} s: {case}")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def ended(main, argv, capfd, case):
    """The exit code of a command in this process; it may fail with one sentence alone."""
    capfd.readouterr()
    with limited(case):
        try:
            code = main([str(word) for word in argv])
        except SystemExit as stop:
            code = stop.code
    error = capfd.readouterr().err
    said = [line for line in error.split("\n") if ".py: " in line or line.startswith("evaluation.")]
    assert code in (0, 1, 2), (case, code, error)
    assert "Traceback" not in error and "--debug shows" not in error, (case, error)
    assert code == 0 or len(said) == 1, (case, error)
    return code


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The bytes of a file with some of them changed, cut off, repeated or put in."""
    content = bytearray(content)
    place = chance.randrange(len(content))
    kind = chance.choice(["flip", "cut", "zero", "insert", "repeat"])
    if kind == "flip":
        for _ in range(chance.choice([1, 8, 64])):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    if kind == "cut":
        del content[place:]
    if kind == "zero":
        content[place:place + 64] = bytes(len(content[place:place + 64]))
    if kind == "insert":
        content[place:place] = chance.choice([b"\0", b"\xff\xfe", b"\n", b'"', b"{" * 5000, b"9" * 5000])
    if kind == "repeat":
        content += content[place:]
    return bytes(content)


def places(content, path=()):
    """The paths to all values in nested dicts and lists."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(items):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def replaced(content, path, value) -> None:
    """Put a value at a path."""
    *outer, last = path
    for key in outer:
        content = content[key]
    content[last] = value

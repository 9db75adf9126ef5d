"""Every command that a document shows parses, and what it names exists."""
import contextlib
import importlib
import re
import shlex
from pathlib import Path

import pytest

from parameters import build_parser, get_options
from utilities.errors import UsageError

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = {"", "console", "bash", "sh"}
PYTHON = r"(?:\.venv/bin/)?python (?:main\.py|-m|scripts/|examples/|benchmarks/)[^`]*"
SETTING = r"""[A-Z_]+=(?:"[^"]*"|\S+) """
INLINE = re.compile(rf"`((?:{SETTING})*(?:{PYTHON}|bash [^`]*|make [\w-]+))`")
LAUNCHERS = {"python", "bash", "make", "torchrun", "sbatch"}
# of the system, or of another program
ELSEWHERE = {"git", "cd", "pip", "source", "apt-get", "conda", "uv"}
# these read a file when they are parsed in full, so that the parser alone looks at them
FROM_FILES = {"--repeat", "--config", "--resume", "--checkpoint", "--help", "--list"}
VARIABLE = re.compile(r"[A-Z_]+=")


def words_of(line: str) -> list[str]:
    """The words of one command, without its comment and without `...`, which stands for more of them."""
    words = shlex.split(line.removeprefix("$ "), comments=True)
    return [word for word in words if word != "..."]


def commands(page: Path) -> list[str]:
    """The commands of a page: lines of code blocks that begin with a program, and commands in sentences."""
    inline = INLINE.findall(FENCED.sub("", page.read_text()))
    found = [line for line in shell_lines(page) if program(line) in LAUNCHERS]
    return found + [" ".join(line.split()) for line in inline]


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's code blocks of no other language, continued lines as one."""
    blocks = [block for language, block in FENCED.findall(page.read_text()) if language in SHELLS]
    return "\n".join(blocks).replace("\\\n", " ").splitlines()


def program(line: str) -> str:
    """The program that a line calls, if it is a command."""
    with contextlib.suppress(ValueError):
        for word in words_of(line):
            if not VARIABLE.match(word):
                return Path(word).name
    return ""


EVERY = [pytest.param(page, line, id=f"{page.stem}: {line}"[:90]) for page in PAGES for line in commands(page)]


@contextlib.contextmanager
def ends_well():
    """--help and --list end with 0."""
    try:
        yield
    except SystemExit as stop:
        if stop.code:
            raise


def check_main(words: list[str]) -> None:
    """The flags of main.py go together; where a file decides, each of them exists."""
    from_file = FROM_FILES & set(words)
    if not from_file:
        get_options(words)
        return
    with ends_well():
        assert build_parser().parse_words(words)[1] == []


def check_module(name: str, words: list[str]) -> None:
    """The flags of `python -m name`."""
    if name == "pytest":
        assert all((ROOT / word).exists() for word in words if word.startswith("tests"))
        return
    module = importlib.import_module(name)
    # a sentence names the command alone
    if not words:
        return
    if not hasattr(module, "build_parser"):
        module = importlib.import_module(f"{name}.command")
    with_serve = ["--serve" in words] if name == "evaluation.search" else []
    with ends_well():
        module.build_parser(*with_serve).parse_args(words)


def check_python(words: list[str]) -> None:
    """A call of Python: main.py, a module, or a script."""
    first, *rest = words
    if first == "main.py":
        check_main(rest)
    elif first == "-m":
        check_module(rest[0], rest[1:])
    elif first == "examples/sweep.py":
        from examples import sweep
        check_main(sweep.build_parser().parse_known_args(rest)[1])
    else:
        assert (ROOT / first).exists(), first


def check_bash(variables: list[str], words: list[str]) -> None:
    """A script and the variables that it reads."""
    script, *rest = words
    assert (ROOT / script).exists(), script
    sources = "\n".join(path.read_text() for path in (ROOT / "scripts").glob("*.sh"))
    for variable in variables:
        name = variable.partition("=")[0]
        assert re.search(rf"\$\{{?#?{name}\b", sources), name
    if script == "scripts/slurm.sh":
        check_main(rest)


@pytest.mark.parametrize("page,line", EVERY)
def test_a_command_of_a_document_parses(page, line, monkeypatch):
    # docs/extending.md names parts that its own test adds
    if page.name == "extending.md" and "main.py" in line:
        flag, value = words_of(line)[2:4]
        assert f'"{flag}", "{value}"' in (ROOT / "tests" / "test_extending.py").read_text()
        return
    monkeypatch.chdir(ROOT)
    words = words_of(line)
    variables = [word for word in words if VARIABLE.match(word)]
    name, *rest = words[len(variables):]
    name = Path(name).name
    if name == "python":
        check_python(rest)
    elif name in ("bash", "sbatch"):
        check_bash(variables, rest)
    elif name == "torchrun":
        check_main(rest[rest.index("main.py") + 1:])
    else:
        targets = (ROOT / "Makefile").read_text()
        assert all(f"\n{target}:" in targets for target in rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_command_is_left_out(page):
    """A line of a code block that looks like a command begins with a program that is known."""
    printed = (" ", "|")
    for line in shell_lines(page):
        if re.search(r"\s--[a-z]", line) and not line.startswith(printed):
            assert program(line) in LAUNCHERS | ELSEWHERE, line


def test_the_commands_are_found():
    assert len(EVERY) > 60
    assert {program(param.values[1]) for param in EVERY} >= {"python", "bash", "torchrun", "sbatch", "make"}


@pytest.mark.parametrize("wrong", [["--los", "margin"], ["--loss", "margn"], ["--bs", "many"]])
def test_a_wrong_command_is_found(wrong):
    with pytest.raises((SystemExit, UsageError)):
        check_main(wrong)

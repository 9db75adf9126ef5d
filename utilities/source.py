"""Classes and functions, read from their source: nothing is imported, so torch is not loaded."""
import ast
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
WIDTH = 100  # of a summary, in characters
NO_DEFAULT = object()


@dataclass(frozen=True)
class Definition:
    """A class or function, and the file that defines it."""

    path: Path
    node: ast.ClassDef | ast.FunctionDef


def registry(path: Path, name: str) -> dict[str, Definition | None]:
    """The names in a literal dict or tuple of a module, each with its class, function or None."""
    literal = statements(path)[name].value
    if not isinstance(literal, ast.Dict):
        return dict.fromkeys(ast.literal_eval(literal))
    names = [key.value for key in literal.keys]
    return {name: find(path, ast.unparse(value)) for name, value in zip(names, literal.values)}


def find(path: Path | None, name: str) -> Definition | None:
    """What a module calls `name` or `module.name`, if a class or function of this tree, or None."""
    if path is None:
        return None
    name, _, member = name.partition(".")
    statement = statements(path).get(name)
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return Definition(path, statement)
    if not isinstance(statement, ast.ImportFrom):
        return None
    original = next(alias.name for alias in statement.names if name in (alias.name, alias.asname))
    if member:
        return find(file_of(f"{statement.module}.{original}"), member)
    return find(file_of(statement.module), original)


@cache
def statements(path: Path) -> dict[str, ast.stmt]:
    """The names of a module, each with the statement that defines, assigns or imports it."""
    names = {}
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        match statement:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                names[name] = statement
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names[name] = statement
            case ast.ImportFrom():
                for alias in statement.names:
                    names[alias.asname or alias.name] = statement
    return names


def file_of(module: str) -> Path | None:
    """The file of a module of this tree, or None."""
    path = ROOT.joinpath(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next(filter(Path.is_file, files), None)


class Argument(NamedTuple):
    """default: NO_DEFAULT where it is missing or not a literal. kind: the first name of its annotation,
    of `tuple[Positive, ...]` that of its entries, or ''.
    """

    default: Any
    kind: str


def arguments(definition: Definition | None) -> dict[str, Any]:
    """The arguments of a function, or of a class's constructor, each with its default."""
    return {name: one.default for name, one in signature(definition).items()}


@cache
def signature(definition: Definition | None) -> dict[str, Argument]:
    """The arguments of a function, or of a class's constructor.

    A class without a constructor has the arguments of its base classes and its annotated fields, as
    a dataclass has; a constructor that takes **kwargs has those of the base classes too.
    """
    if definition is None:
        return {}
    node = definition.node
    if isinstance(node, ast.FunctionDef):
        return own_arguments(node.args)
    methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    constructor = methods.get("__init__")
    known: dict[str, Argument] = {}
    if constructor is None or constructor.args.kwarg:
        for base in node.bases:
            known |= signature(find(definition.path, ast.unparse(base)))
    return known | (own_arguments(constructor.args) if constructor else fields(node))


def fields(node: ast.ClassDef) -> dict[str, Argument]:
    """The annotated fields of a class."""
    annotated = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    return {part.target.id: argument(part.value, part.annotation) for part in annotated}


def own_arguments(signature: ast.arguments) -> dict[str, Argument]:
    """The arguments that a signature names."""
    positional = signature.posonlyargs + signature.args
    required = [None] * (len(positional) - len(signature.defaults))
    named = positional + signature.kwonlyargs
    defaults = required + signature.defaults + signature.kw_defaults
    pairs = zip(named, defaults)
    known = {one.arg: argument(default, one.annotation) for one, default in pairs}
    known.pop("self", None)
    return known


def argument(default: ast.expr | None, annotation: ast.expr | None) -> Argument:
    """An argument from the nodes of its default and its annotation."""
    nodes = ast.walk(annotation) if annotation else []
    names = (node.id for node in nodes if isinstance(node, ast.Name))
    return Argument(value_of(default), next((name for name in names if name != "tuple"), ""))


def value_of(node: ast.expr | None) -> Any:
    """The value of a literal; NO_DEFAULT for anything else."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return NO_DEFAULT


def summary(definition: Definition | None) -> str:
    """The first sentence of a docstring, shortened; empty where there is none."""
    text = definition and ast.get_docstring(definition.node) or ""
    first = re.split(r"(?<=\.)\s+(?=[A-Z])|\n\n", text, maxsplit=1)[0]
    return textwrap.shorten(first.rstrip(".:,"), WIDTH, placeholder=" ...")

"""The rooms of the tree: what imports what, from below to above, without a circle."""
import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
# from the ground up; the rooms of one floor do not import each other
FLOORS = (
    {"utilities"},
    {"parameters", "recipes"},
    {"flows", "datasets", "batchminer"},
    {"criteria"},
    {"architectures"},
    {"criteria.method"},
    {"evaluation"},
    {"training"},
    {"main"},
)
# of one floor, but the first uses the second
ALLOWED = {("parameters", "recipes")}
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def room_of(module: str) -> str | None:
    """The room that a module lies in."""
    parts = module.split(".")
    for length in (2, 1):
        room = ".".join(parts[:length])
        if room in FLOOR:
            return room
    return None


def modules() -> dict[str, Path]:
    """Every module of the rooms by its name, with its file."""
    files = [path for room in FLOOR for path in sorted(ROOT.glob(f"{room.replace('.', '/')}/**/*.py"))]
    files += [ROOT / f"{room}.py" for room in FLOOR if (ROOT / f"{room}.py").exists()]
    names = {}
    for path in files:
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


def imports(path: Path, known: dict[str, Path], *, at_start: bool = False) -> set[str]:
    """The modules of the rooms that a file imports; `at_start`: when it is loaded, not inside of functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_start else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {member for member in members if member in known} or {node.module}
    return {module for module in found if room_of(module)}


def upward(source: str, target: str) -> bool:
    """Whether an import goes from a room to one above it, or to another of its floor."""
    below, above = room_of(source), room_of(target)
    if below == above or (below, above) in ALLOWED:
        return False
    return FLOOR[above] >= FLOOR[below]


def test_no_import_goes_up():
    known = modules()
    assert len(known) > 150
    wrong = [f"{source} -> {target}" for source, path in known.items() for target in imports(path, known)
             if upward(source, target)]
    assert wrong == []


def test_an_import_that_goes_up_is_found():
    assert upward("utilities.errors", "criteria.margin")
    assert upward("criteria.margin", "criteria.method.policy")
    assert upward("datasets.base", "flows.base")
    assert not upward("criteria.method.policy", "criteria.base")
    assert not upward("training.run", "evaluation")


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, or an empty list."""
    done = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module):], module]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            found = visit(target, [*path, module])
            if found:
                return found
        done.add(module)
        return []
    for module in sorted(graph):
        found = visit(module, [])
        if found:
            return found
    return []


def test_no_modules_import_each_other_in_a_ring():
    known = modules()
    graph = {}
    for source, path in known.items():
        targets = imports(path, known, at_start=True) & set(known)
        # a package that gathers the names of its own files is no ring of theirs
        own = path.name == "__init__.py"
        graph[source] = {t for t in targets if t != source and not (own and t.startswith(f"{source}."))}
    assert circle(graph) == []


def test_a_ring_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b"}, "b": set()}) == []

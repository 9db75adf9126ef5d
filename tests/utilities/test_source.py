"""What is read from source is what an import gives."""
import importlib
import inspect

import pytest

from utilities import choices, source
from utilities.choices import REGISTRIES, registry

SIGNED = [
    "loss", "batch_mining", "memory", "dataset", "flow", "policy_action", "policy_reward", "relation",
]


def imported(flag):
    """The registry of a flag, by import."""
    file, name = REGISTRIES[flag]
    module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("flag", REGISTRIES)
def test_names_and_their_order_are_those_of_the_registry(flag):
    assert list(registry(flag)) == list(imported(flag))


@pytest.mark.parametrize("flag", sorted(set(REGISTRIES) - {"augmentation", "evaluation_metrics"}))
def test_classes_and_functions_are_those_of_the_registry(flag):
    for name, entry in imported(flag).items():
        definition = registry(flag)[name]
        if entry is None:
            continue
        assert definition.node.name == entry.__name__
        assert str(definition.path) == inspect.getsourcefile(entry)
        assert source.summary(definition)[:20] == inspect.getdoc(entry)[:20]


def signature_of(entry):
    """The arguments as inspect has them, after those of the base classes where it has **kwargs."""
    signature = dict(inspect.signature(entry).parameters)
    named = {
        name: argument
        for name, argument in signature.items()
        # A class without a constructor has that of nn.Module.
        if argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    }
    if len(named) == len(signature) or not inspect.isclass(entry):
        return named
    inherited = {}
    for base in entry.__bases__:
        if not base.__module__.startswith("torch"):
            inherited |= signature_of(base)
    return inherited | named


@pytest.mark.parametrize("flag", SIGNED)
def test_arguments_and_defaults_are_those_of_the_signature(flag):
    for name, entry in imported(flag).items():
        read = source.arguments(registry(flag)[name])
        signature = signature_of(entry)
        assert list(read) == list(signature)
        for argument, parameter in signature.items():
            if read[argument] is source.NO_DEFAULT:
                assert parameter.default is inspect.Parameter.empty
            else:
                assert read[argument] == parameter.default


def test_arguments_that_a_constructor_passes_on_count(tmp_path):
    file = tmp_path / "made_up.py"
    file.write_text(
        "class Base:\n"
        "    def __init__(self, a, b=1, *, c=None): pass\n"
        "class Passes(Base):\n"
        "    def __init__(self, *args, d=(1, -2), e=len, **kwargs): pass\n"
        "class Inherits(Base): pass\n"
        "class Fields(Base):\n"
        "    d: float = -0.5\n"
        "    e = 1\n"
        "class Own(Base):\n"
        "    def __init__(self, f: int = 3): pass\n"
        "async def neither(g): pass\n"
        "def function(h, /, i=True): pass\n"
    )

    def arguments(name):
        return source.arguments(source.find(file, name))

    nothing = source.NO_DEFAULT
    assert arguments("Passes") == {"a": nothing, "b": 1, "c": None, "d": (1, -2), "e": nothing}
    assert arguments("Inherits") == {"a": nothing, "b": 1, "c": None}
    assert arguments("Fields") == arguments("Inherits") | {"d": -0.5}
    assert arguments("Own") == {"f": 3}
    assert arguments("function") == {"h": nothing, "i": True}
    assert source.find(file, "neither") is None and source.find(file, "absent") is None
    assert arguments("absent") == {}


def test_definitions_are_found_behind_imports_of_other_files():
    package = source.ROOT / "architectures" / "__init__.py"
    assert source.find(package, "Network").path.name == "network.py"
    assert source.find(package, "select_memory").path.name == "memory.py"
    assert source.find(package, "Path") is None
    assert source.find(source.ROOT / "datasets" / "__init__.py", "glyphs.glyphs").path.name == "glyphs.py"


def test_a_summary_is_the_first_sentence(tmp_path):
    file = tmp_path / "made_up.py"
    file.write_text(
        'def first():\n    """One sentence. And another."""\n'
        'def long():\n    """Word """ + "x"\n'
        f'def cut():\n    """{"word " * 50}"""\n'
        'def formula():\n    """A formula:\n\n        x = y\n    """\n'
    )
    assert source.summary(source.find(file, "first")) == "One sentence"
    assert source.summary(source.find(file, "long")) == ""
    assert source.summary(source.find(file, "formula")) == "A formula"
    cut = source.summary(source.find(file, "cut"))
    assert cut.endswith("word ...") and len(cut) <= source.WIDTH


@pytest.mark.parametrize("flag,prefix,belongs", [
    ("miner_random_distance_lower_cutoff", "miner_random_distance_", True),
    ("miner_random_distance_lower_cutoff", "miner_random_", False),
    ("miner_distance_lower_cutoff", "miner_distance_", True),
    ("loss_margin_nu", "loss_margin_", True),
    ("loss_margin_nu", "loss_triplet_", False),
    ("policy_step", "policy_", True),
])
def test_a_flag_belongs_to_one_class(flag, prefix, belongs):
    assert choices.belongs(flag, prefix) is belongs

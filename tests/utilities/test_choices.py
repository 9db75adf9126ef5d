"""What flags may name, against the registries that are imported."""
import inspect

import pytest

from batchminer import MINERS
from criteria import CRITERIA
from utilities import choices
from utilities.choices import BESIDE, REGISTRIES, benchmarks, benchmarks_in, loss_names, takers
from utilities.source import ROOT


def test_every_name_beside_a_registry_is_of_a_flag_and_not_in_the_registry():
    for flag, names in BESIDE.items():
        assert not names.keys() & choices.registry(flag).keys()
    assert BESIDE.keys() <= REGISTRIES.keys()
    for file, _ in REGISTRIES.values():
        assert (ROOT / file).is_file()


@pytest.mark.parametrize("flag,classes,argument", [
    ("loss", CRITERIA, "nu"),
    ("loss", CRITERIA, "margin"),
    ("loss", CRITERIA, "n_classes"),
    ("batch_mining", MINERS, "lower_cutoff"),
    ("batch_mining", MINERS, "no_such_argument"),
])
def test_takers_are_the_classes_whose_constructor_has_the_argument(flag, classes, argument):
    signatures = {name: inspect.signature(cls).parameters for name, cls in classes.items()}
    expected = [name for name, known in signatures.items() if argument in known]
    assert takers(flag, argument) == expected
    assert bool(expected) is (argument != "no_such_argument")


@pytest.mark.parametrize("flags,names", [
    ({"loss": "margin"}, ["margin"]),
    ({"loss": "pml.CircleLoss"}, ["pml"]),
    ({"loss": "own_file.Loss"}, ["own_file.Loss"]),
    ({"loss": "pmlx"}, ["pmlx"]),
    ({"loss": "adversarial_separation"}, ["adversarial_separation", "multisimilarity"]),
    (
        {"loss": "adversarial_separation", "loss_adversarial_separation_on": "margin"},
        ["adversarial_separation", "margin"],
    ),
])
def test_a_loss_as_its_flags_call_it(flags, names):
    assert loss_names(flags) == names


def test_every_prefix_that_begins_another_gives_its_flags_to_the_longer_one():
    names = [f"miner_{name}_" for name in MINERS] + [f"loss_{name}_" for name in CRITERIA]
    for prefix in names:
        owners = [other for other in names if choices.belongs(f"{prefix}x", other)]
        assert owners == [prefix]


@pytest.fixture
def place(tmp_path):
    def make(*folders):
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True)
        return tmp_path
    return make


@pytest.mark.parametrize("name", ["cub200", "cars196", "online_products"])
def test_a_benchmark_is_known_by_each_of_its_folders(place, name):
    for folder in benchmarks()[name]:
        holds = place(folder)
        assert name in benchmarks_in(str(holds))
        assert name in benchmarks_in(f"{holds / folder}/")
        (holds / folder).rmdir()


def test_several_benchmarks_in_the_order_of_the_registry_and_none_elsewhere(place, tmp_path):
    holds = place("Stanford_Online_Products", "cub200", "Räume")
    assert benchmarks_in(str(holds)) == ["cub200", "online_products"]
    assert benchmarks_in(str(holds / "Räume")) == []
    assert benchmarks_in(str(tmp_path / "absent")) == []
    # a file of this name is no data set
    (tmp_path / "Räume" / "cars196").write_text("")
    assert benchmarks_in(str(tmp_path / "Räume")) == []


def test_data_sets_of_any_folder_are_no_benchmarks():
    assert not {"image_folder", "glyphs", "embeddings"} & benchmarks().keys()
    folders = list(benchmarks().values())
    assert all(isinstance(folder, str) for own in folders for folder in own)
    assert len(set(folders)) == len(folders)

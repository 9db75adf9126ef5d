"""Rules on flags: a new class of a registry needs none."""
from argparse import Namespace

import pytest

import parameters
from utilities import choices, rules

REWARDS = """
class Lookahead:
    def __init__(self, step: float = 0.2): ...

class Reciprocal:
    def __init__(self, depth: int = 5): ...

REWARDS = {"lookahead": Lookahead, "reciprocal": Reciprocal}
"""


@pytest.fixture
def new_reward(tmp_path, monkeypatch):
    """A registry of rewards with a new one that has an argument of its own."""
    file = tmp_path / "rewards.py"
    file.write_text(REWARDS)
    monkeypatch.setitem(choices.REGISTRIES, "policy_reward", (file, "REWARDS"))
    monkeypatch.setattr(rules, "ARGUMENTS", (("policy_", "policy_reward"),))
    cached = (choices.registry, choices.takers, parameters.flag_actions)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def options(**flags):
    return Namespace(loss="margin", batch_mining="distance", pair_weighting="learned", **flags)


def test_the_arguments_of_a_new_reward_apply_to_it_alone(new_reward):
    new, old = options(policy_reward="reciprocal"), options(policy_reward="lookahead")
    assert rules.why_idle("policy_depth", new) is None
    assert rules.why_idle("policy_step", old) is None
    assert rules.why_idle("policy_depth", old) == "with --policy_reward lookahead"
    assert rules.why_idle("policy_step", new) == "with --policy_reward reciprocal"


def test_arguments_of_no_reward_apply_to_all_and_an_own_class_takes_any(new_reward):
    assert rules.why_idle("policy_samples", options(policy_reward="lookahead")) is None
    assert rules.why_idle("policy_step", options(policy_reward="my_module.Mine")) is None


def test_the_arguments_of_a_new_reward_are_flags(new_reward, capsys):
    new = ["--policy_reward", "reciprocal"]
    assert parameters.get_options(new).policy_depth == 5
    assert parameters.get_options([*new, "--policy_depth", "7"]).policy_depth == 7
    with pytest.raises(SystemExit):
        parameters.get_options(["--policy_depth", "7"])
    assert "--policy_depth has no effect with --policy_reward lookahead" in capsys.readouterr().err


@pytest.mark.parametrize("condition,value,reason", [
    ("with --cache none", "none", "with --cache none"),
    ("with --cache none", "ram", None),
    ("with --cache 0", 0.0, "with --cache 0"),
    ("with --cache", "file", "with --cache"),
    ("with --cache", None, None),
    ("without --cache", False, "without --cache"),
    ("without --cache", True, None),
    ("unless --cache ram disk", "disk", None),
    ("unless --cache ram disk", "none", "with --cache none"),
])
def test_conditions_hold_as_they_read(condition, value, reason):
    assert rules.reason_of(condition, Namespace(cache=value)) == reason


@pytest.mark.parametrize("names,flag,stands", [
    ("tau gamma", "gamma", True),
    ("tau gamma", "gamma_x", False),
    ("map_ json", "map_images", True),
    ("map_ json", "json_x", False),
])
def test_a_name_with_a_line_at_its_end_stands_for_all_that_begin_with_it(names, flag, stands):
    assert rules.stands_for(names, flag) is stands


def said(flags):
    """All sentences on the defaults with these flags."""
    opt = parameters.get_options([])
    vars(opt).update(flags)
    return list(rules.problems(opt, flags))


def test_the_defaults_have_no_problem():
    assert said({}) == []


@pytest.mark.parametrize("flags,words", [
    ({"gpu": [0, 1]}, "--gpu takes the number of one GPU"),
    ({"gpu": [0], "device": "cpu"}, "of one GPU, and none with --device cpu"),
    ({"data_mb_mom": 1.0}, "--data_mb_mom 1 never forgets: pass less than 1"),
    ({"freeze": True, "pooling": "gem"}, "--pooling gem learns its power, which --freeze cannot"),
    ({"dataset": "embeddings"}, "--dataset embeddings has features in their place"),
    ({"dataset": "embeddings", "evaluate_only": True, "checkpoint": "x.pt"}, "--checkpoint x.pt takes images, and"),
    ({"arch": "features"}, "--arch features takes features: pass --dataset embeddings"),
    ({"embed_dim": "none", "warmup_epochs": 2}, "which --embed_dim none leaves out"),
    ({"embed_dim": "none", "freeze": True, "memory": "none"}, "leaves nothing of the network"),
    ({"loss": "npair", "arch": "convnet"}, "--loss npair has a term of the rows' length"),
    ({"policy_action": "weight", "policy_constant": [1, -2]}, "holds factors with --policy_action"),
    ({"train_on_all": True, "evaluate_only": True}, "--evaluate_only has no images to test on"),
    ({"train_on_all": True, "use_tv_split": True}, "pass --tv_split_by_samples too, which takes"),
    ({"bs": 7, "samples_per_class": 8}, "choose, for example, --bs 8"),
    ({"xbm_size": 2**34}, "--xbm_size 17179869184 would take "),
])
def test_what_cannot_work_is_said(flags, words):
    found = said(flags)
    assert any(words in sentence for sentence in found)
    assert not any("\n" in sentence for sentence in found)


@pytest.mark.parametrize("given", [{"resume": "run"}, {"repeat": "options.json"}, {"evaluate_only": True}])
def test_the_built_in_set_is_not_drawn_among_photographs(tmp_path, given):
    source = {"source_path": str(tmp_path / "photos")}
    assert said(given | source) == said(given)
    (tmp_path / "photos" / "dog").mkdir(parents=True)
    assert any("photos does not say what it holds" in sentence for sentence in said(given | source))
    assert said(given | source | {"dataset": "image_folder"}) == said(given)
    (tmp_path / "photos" / "glyphs-0123").mkdir()
    assert said(given | source) == said(given)


@pytest.mark.parametrize("name,is_one", [
    ("a", True), ("ä 猫", True), ("...", True), ("-x", True), ("", True), ("a.b", True),
    (".", False), ("..", False), ("a/b", False), ("a\\b", False), ("a\0", False), ("/", False),
])
def test_a_name_of_a_folder_leads_nowhere_else(name, is_one):
    assert rules.is_folder_name(name) is is_one


@pytest.mark.parametrize("flags,arch", [
    ({"arch": "a", "relation": "gru", "loss": "margin"}, "a_normalize"),
    ({"arch": "a_frozen", "relation": "gru", "loss": "margin"}, "a_frozen_normalize"),
    ({"arch": "a_normalize", "relation": "gru", "loss": "margin"}, "a_normalize"),
    ({"arch": "a_normalize_frozen", "relation": "gru", "loss": "margin"}, "a_normalize_frozen"),
    ({"arch": "a", "relation": "gru", "loss": "npair"}, "a"),
    ({"arch": "a", "relation": "none", "pair_weighting": "uniform", "loss": "margin"}, "a"),
    (
        {"arch": "a", "relation": "none", "pair_weighting": "learned", "loss": "margin"},
        "a_normalize",
    ),
])
def test_the_method_gets_unit_rows_where_the_loss_allows_it(flags, arch):
    assert rules.completed(flags) == arch


def test_sizes_are_counted_in_numbers():
    opt = parameters.get_options([])
    opt.crop_size = 10
    opt.bs = 4
    opt.policy_samples = 3
    found = rules.sizes(opt)
    assert found["a batch of --bs 4 images of 10 x 10 pixels"] == 4 * 3 * 10 * 10
    assert found["--policy_samples 3 with --bs 4"] == 3 * 4 * 4
    opt.pair_weighting = "uniform"
    assert rules.sizes(opt)["--policy_samples 3 with --bs 4"] == 0


def test_only_the_largest_are_refused_for_their_size():
    opt = parameters.get_options([])
    opt.crop_size = None
    opt.image_size = 2**15
    opt.bs = 2**6
    # 3 * 2^6 * 2^30 numbers of 4 bytes are 0.75 TiB
    assert not any("TiB" in sentence for sentence in rules.problems(opt, {}))
    opt.bs = 2**7
    [sentence] = [one for one in rules.problems(opt, {}) if "TiB" in one]
    pixels = "32768 x 32768 pixels"
    would = f"a batch of --bs 128 images of {pixels} would take 2 TiB: pass smaller numbers"
    assert sentence == would

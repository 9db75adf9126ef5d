"""Flags: defaults in layers, refusals in one sentence, and names that equal the constructors' arguments."""
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from parameters import build_parser, get_options, kwargs_for, loss_arguments
from utilities.choices import loss_names
from utilities.errors import UsageError
from utilities.rules import NO_EFFECT, PLACES

ROOT = Path(__file__).parent.parent


def refused(capsys, *argv):
    with pytest.raises(SystemExit) as stop:
        get_options(list(argv))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "Traceback" not in error
    return error


def test_no_flags_is_the_full_method_on_glyphs():
    opt = get_options([])
    assert (opt.dataset, opt.arch, opt.relation, opt.pair_weighting, opt.memory, opt.loss) == (
        "glyphs", "convnet_normalize", "gru", "learned", "realnvp", "smoothap")


def test_layers_of_defaults():
    assert get_options(["--dataset", "image_folder", "--source_path", "x"]).arch == "resnet50_frozen_normalize"
    assert get_options(["--arch", "resnet18_normalize"]).bs == 180
    paper = get_options(["--recipe", "paper"])
    assert (paper.loss, paper.batch_mining, paper.policy_action) == ("smoothap", "none", "weight")
    assert (paper.memory, paper.pair_weight_on, paper.loss_smoothap_tau) == ("glow", "rank", 0.01)
    assert get_options(["--recipe", "paper", "--memory", "none", "--lr", "0.5"]).lr == 0.5
    assert get_options(["--policy_granularity", "anchor"]).policy_lr == 1e-3
    acts = {(): "expected", ("--policy_granularity", "anchor"): "expected", ("--recipe", "paper"): "sample"}
    assert {argv: get_options(list(argv)).policy_act for argv in acts} == acts
    assert get_options(["--policy_granularity", "anchor", "--policy_lr", "3"]).policy_lr == 3
    assert get_options(["--loss", "margin"]).batch_mining == "distance"
    margin = get_options(["--recipe", "paper", "--loss", "margin"])
    assert (margin.batch_mining, margin.pair_weight_on) == ("distance", "distance")
    assert margin.loss_margin_beta_constant
    proxies = get_options(["--recipe", "paper", "--loss", "proxyanchor"])
    assert (proxies.batch_mining, proxies.pair_weight_on) == ("none", "positive")
    assert get_options(["--recipe", "paper", "--loss", "softmax"]).pair_weight_on == "term"


@pytest.mark.parametrize("flags, first", [
    ([], "zero"),
    (["--arch", "resnet18_normalize"], "unweighted"),
    (["--arch", "resnet18_normalize", "--policy_granularity", "anchor"], "unweighted"),
    (["--arch", "resnet18_normalize", "--policy_action", "weight", "--policy_granularity", "anchor"], "zero"),
    (["--arch", "resnet18_normalize", "--loss", "softmax"], "zero"),
    (["--arch", "resnet18_normalize", "--recipe", "paper"], "default"),
    (["--arch", "resnet18_normalize", "--policy_init", "zero"], "zero"),
])
def test_the_first_policy_of_a_large_backbone_takes_the_loss_as_it_is(flags, first):
    assert get_options(flags).policy_init == first


@pytest.mark.parametrize("cores, workers", [(1, 1), (3, 3), (8, 8), (64, 8)])
def test_no_more_workers_than_cores_where_none_are_given(monkeypatch, cores, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    photographs = ["--arch", "resnet18_normalize"]
    assert get_options(photographs).kernels == workers
    assert get_options([*photographs, "--kernels", "5"]).kernels == 5
    revisiting = ["--recipe", "revisiting", "--source_path", "x"]
    assert get_options(revisiting).kernels == min(6, workers)
    assert get_options([]).kernels == 0


@pytest.mark.parametrize("name", ["online_products", "sop"])
def test_the_published_recipe_on_stanford_online_products(name):
    argv = ["--recipe", "paper", "--source_path", "x", "--dataset"]
    opt = get_options([*argv, name])
    assert (opt.arch, opt.bs, opt.samples_per_class) == ("resnet50_frozen_normalize", 180, 4)
    assert (opt.data_sampler, opt.steps_per_epoch) == ("hierarchical", 660)
    assert (opt.image_size, opt.crop_size, opt.augmentation) == (256, 256, "base")
    assert (opt.n_epochs, opt.gamma, opt.tau) == (200, 0.5, list(range(20, 200, 20)))
    assert (opt.optim, opt.lr, opt.decay, opt.warmup_epochs) == ("adam", 1e-4, 1e-4, 5)
    assert (opt.embed_dim, opt.memory_weight, opt.memory_nll) == (512, 1.0, "sum")
    others = get_options([*argv, "cub200", "--image_size", "64"])
    assert (others.data_sampler, others.steps_per_epoch) == ("class_random", 0)
    assert (others.image_size, others.crop_size) == (64, 64)


def test_the_published_recipe_with_a_transformer():
    argv = ["--recipe", "paper", "--dataset", "cub200", "--source_path", "x"]
    opt = get_options([*argv, "--arch", "vit_small_normalize"])
    assert (opt.embed_dim, opt.relation_bidirectional, opt.image_size) == (384, False, None)
    assert (opt.policy_levels, opt.policy_largest, opt.memory_weight) == (128, 2.0, 0.02)


def test_small_networks_rank_at_a_wider_temperature():
    alone = ["--loss", "smoothap", "--relation", "none", "--pair_weighting", "uniform"]
    large = ["--arch", "resnet50_normalize"]
    taus = [get_options(argv).loss_smoothap_tau for argv in ([], alone, large, [*large, *alone])]
    assert taus == [0.08, 0.08, 0.01, 0.01]
    assert get_options(["--loss_smoothap_tau", "0.5"]).loss_smoothap_tau == 0.5


OPTIONS = {"flags": {}}


@pytest.mark.parametrize("argv,words", [
    (["--los", "gpw"], "Did you mean --loss"),
    (["--recipe", "nope"], "default"),
    (["--bs", "10"], "multiple of --samples_per_class 4"),
    (["--bs", "0"], "at least 1"),
    (["--bs", "many"], "whole number"),
    (["--use_tv_split", "--tv_split_perc", "1.5"], "between 0 and 1"),
    (["--tv_split_perc", "0.5"], "without --use_tv_split"),
    (["--loss", "smoothap", "--loss_margin_nu", "1"], "no effect with --loss smoothap"),
    (["--loss", "adversarial_separation", "--loss_margin_nu", "1"], "no effect with --loss adversarial_separation"),
    (["--loss_pml_args", "margin=1"], "no effect with --loss smoothap"),
    (["--loss", "pml.CircleLoss", "--loss_circle_gamma", "2"], "no effect with --loss pml.CircleLoss"),
    (["--loss", "pml.CircleLoss", "--policy_samples", "2"], "no effect with --pair_weighting uniform"),
    (["--miner_distance_lower_cutoff", "1"], "no effect with --batch_mining none"),
    (["--pair_weighting", "uniform", "--policy_samples", "4"], "no effect with --pair_weighting uniform"),
    (["--memory", "none", "--memory_hidden", "4"], "no effect with --memory none"),
    (["--memory", "glow", "--memory_hidden", "4"], "no effect with --memory glow"),
    (["--memory_levels", "4"], "no effect with --memory realnvp"),
    (["--policy_levels", "4"], "no effect with --policy_action sharpness"),
    (["--policy_reward", "batch_ap", "--policy_step", "1"], "no effect with --policy_reward batch_ap"),
    (["--loss", "margin", "--miner_random_distance_lower_cutoff", "1"], "with --batch_mining distance"),
    (["--loss", "margin", "--batch_mining", "random", "--miner_random_distance_lower_cutoff", "1"],
     "with --batch_mining random"),
    (["--resume", "auto", "--repeat", "OPTIONS"], "--repeat starts a run"),
    (["--xbm_weight", "2"], "no effect with --xbm_size 0"),
    (["--proxies_sharpness", "9", "--loss", "margin"], "no effect with --proxies_weight 0"),
    (["--search_precision", "half", "--search_backend", "faiss"], "--search_backend torch"),
    (["--loss", "margin", "--batch_mining", "parametric"], "--use_tv_split"),
    (["--loss", "margin", "--batch_mining", "parametric", "--use_tv_split", "--xbm_size", "9"], "--xbm_size 0"),
    (["--loss", "margin", "--batch_mining", "parametric", "--use_tv_split", "--memory_dual_loss", "own"],
     "--memory_dual_loss shared"),
    (["--loss", "margin", "--batch_mining", "parametric", "--use_tv_split", "--context_loss_weight", "1"],
     "--context_loss_weight 0"),
    (["--pair_weighting", "constant", "--policy_constant", "1", "2", "--policy_action", "weight",
      "--policy_granularity", "anchor"], "--policy_scale none"),
    (["--relation", "none", "--memory", "glow"], "--memory none"),
    (["--relation", "none", "--policy_input", "state"], "policy_input statistics"),
    (["--pair_weighting", "constant"], "--policy_constant"),
    (["--policy_action", "continuous"], "choose from 'sharpness', 'weight'"),
    (["--policy_granularity", "pair"], "choose from 'batch', 'anchor'"),
    (["--policy_reward", "validation"], "choose from 'batch_ap', 'lookahead'"),
    (["--policy_episode", "9"], "--policy_episode is not a flag"),
    (["--evaluate_only"], "--checkpoint"),
    (["--crop_size", "24"], "--crop_size needs --image_size"),
    (["--image_size", "24", "--crop_size", "32"], "cannot be cut"),
    (["--image_size", "24", "--crop_size", "16", "--augmentation", "big"], "--augmentation big"),
    (["--augmentation", "large"], "big"),
    (["--cache", "none", "--cache_side", "99"], "no effect with --cache none"),
    (["--cache", "ram", "--cache_path", "x"], "no effect with --cache ram"),
    (["--json", "x"], "no effect without --evaluate_only"),
    (["--evaluate_only", "--checkpoint", "x", "--map_images", "9"], "no effect with --evaluate_only"),
    (["--evaluate_only", "--checkpoint", "x", "--eval_per_class"], "no effect with --evaluate_only"),
    (["--evaluate_only", "--checkpoint", "x", "--explorer_images", "9"], "no effect with --evaluate_only"),
    (["--explorer_images", "-1"], "at least 0"),
    (["--eval_bootstrap", "-1"], "at least 0"),
    (["--momentum", "0.5"], "no effect with --optim adam"),
    (["--optim", "rmsprop", "--nesterov"], "no effect with --optim rmsprop"),
    (["--optim", "sgd", "--nesterov", "--momentum", "0"], "--momentum"),
    (["--scheduler", "cosine", "--tau", "3"], "no effect with --scheduler cosine"),
    (["--scheduler", "none", "--gamma", "0.5"], "no effect with --scheduler none"),
    (["--lr_min", "0.1"], "no effect with --scheduler step"),
    (["--n_epochs", "2", "--lr_warmup_epochs", "2.5"], "less than --n_epochs 2"),
    (["--lr_warmup_epochs", "nan"], "at least 0"),
    (["--relation", "none", "--memory", "none", "--relation_lr", "1"], "no effect with --relation none"),
    (["--relation", "none", "--context_norm", "batch"], "--context_norm has no effect with --relation none"),
    (["--relation", "none", "--context_loss_weight", "1"], "--context_loss_weight has no effect"),
    (["--memory", "none", "--memory_target", "positives"], "--memory_target has no effect with --memory none"),
    (["--memory", "glow", "--memory_condition", "unit"], "--memory_condition has no effect with --memory glow"),
    (["--memory", "constant", "--memory_condition", "raw"], "--memory_condition has no effect"),
    (["--memory", "none", "--memory_lr", "1"], "no effect with --memory none"),
    (["--frozen_bn_affine"], "--arch convnet_normalize_frozen"),
    (["--pooling", "mean"], "gem"),
    (["--weights", "w.pth", "--not_pretrained"], "--weights and --not_pretrained both"),
    (["--weights", "w.pth", "--checkpoint", "c.pt"], "--weights and --checkpoint both"),
    (["--weights", "w.pth", "--weights_dir", "d"], "no effect with --weights"),
    (["--not_pretrained", "--weights_dir", "d"], "no effect with --not_pretrained"),
    (["--input_std", "1", "0", "1"], "not a number above 0"),
    (["--input_mean", "1", "2"], "expected 3"),
    (["--input_mean", "1", "2", "nan"], "not a finite number"),
    (["--input_channels", "GRB"], "BGR"),
    (["--grad_clip", "-1"], "at least 0"),
    (["--ema", "1"], "less than 1"),
    (["--map_images", "0", "--map_thumbnails"], "no effect with --map_images 0"),
    (["--no-figures", "--explorer_images", "9"], "no effect without --figures"),
    (["--no-figures", "--eval_per_class"], "no effect without --figures"),
    (["--evaluate_only", "--checkpoint", "x", "--no-figures"], "no effect with --evaluate_only"),
    (["--amp", "fp8"], "bf16"),
    (["--savename", "a/b"], "--savename a/b is not the name of a folder"),
    (["--savename", ".."], "is not the name of a folder"),
    (["--savename=~/x"], "is not the name of a folder"),
    (["--savename", "..\\x"], "is not the name of a folder"),
    (["--timeout_minutes", "5"], "no effect without other processes"),
    (["--timeout_minutes", "0"], "from 0.01 to 10,080"),
    (["--dataset", "image_folder"], "--source_path"),
    *[([f"--{flag}", ""], f"--{flag} has no value") for flag in PLACES],
    (["--storage_metrics", "mrr"], "evaluation_metrics"),
    (["--storage_metrics", "ctx_e_recall@1"], "need --eval_context"),
    (["--storage_metrics", "ctx_mrr", "--eval_context", "8"], "not among --evaluation_metrics"),
    (["--eval_context_power", "3"], "no effect with --eval_context 0"),
    (["--eval_context", "-1"], "at least 0"),
    (["--eval_context", "8", "--eval_context_power", "-0.1"], "at least 0"),
    (["--eval_context", "8", "--eval_context_power", "inf"], "at least 0"),
    (["--dataset", "image_folder", "--source_path", "x", "--glyphs_classes", "9"], "no effect with --dataset"),
    (["--memory_samples", "4"], "no effect with --memory_decode mode"),
    (["--memory_temperature", "1"], "no effect with --memory_decode mode"),
    (["--memory_decode", "off", "--memory_gradient"], "no effect with --memory_decode off"),
    (["--memory", "none", "--memory_lr", "1"], "no effect with --memory none"),
    (["--relation", "none", "--memory", "none", "--memory_dual", "none"], "no effect with --relation none"),
    (["--policy_mix", "1"], "no effect with --policy_granularity batch"),
    (["--policy_input", "statistics", "--policy_state", "raw"], "no effect with --policy_input statistics"),
    (["--pair_weighting", "random", "--policy_lr", "1"], "no effect with --pair_weighting random"),
    (["--context_norm", "batch", "--bs", "1", "--samples_per_class", "1"], "pass --bs 2 or more"),
    (["--pair_weighting", "random", "--policy_input", "state"], "no effect with --pair_weighting random"),
    (["--pair_weighting", "constant", "--policy_constant", "1", "2", "--policy_action", "weight", "--policy_scale",
      "none", "--policy_levels", "9"], "no effect with --pair_weighting constant"),
    (["--freeze", "--augmentation", "none", "--freeze_views", "2"], "no effect with --augmentation none"),
    (["--evaluate_only", "--checkpoint", "x", "--resume", "auto"], "--resume has no effect with --evaluate_only"),
    (["--evaluate_only", "--checkpoint", "x", "--no-figures", "--compile"],
     "--no-figures, --compile have no effect with --evaluate_only"),
])
def test_what_cannot_work_is_refused_in_one_sentence(capsys, tmp_path, argv, words):
    path = tmp_path / "options.json"
    path.write_text(json.dumps(OPTIONS))
    argv = [str(path) if word == "OPTIONS" else word for word in argv]
    assert words in refused(capsys, *argv)


def test_the_second_loss_can_be_left_out_where_there_is_no_memory():
    opt = get_options(["--recipe", "paper", "--memory", "none", "--memory_dual", "none"])
    assert (opt.memory, opt.memory_dual, opt.relation) == ("none", "none", "gru")


@pytest.mark.parametrize("trained", [
    {"loss": "margin", "batch_mining": "parametric", "use_tv_split": True, "memory_dual_loss": "own"},
    {"pair_weighting": "constant", "policy_constant": [1.0, 2.0], "policy_action": "weight",
     "policy_granularity": "anchor", "policy_init": "zero"},
])
def test_what_an_older_version_has_trained_can_be_evaluated(trained):
    trained = vars(get_options([])) | trained
    assert get_options(["--evaluate_only", "--checkpoint", "x"], trained=trained).evaluate_only


@pytest.mark.parametrize("flag,wrong,closest", [
    ("loss", "margn", "margin"),
    ("batch_mining", "semi_hard", "semihard"),
    ("data_sampler", "class_randm", "class_random"),
    ("arch", "resnet5_frozen_normalize", "resnet50"),
    ("dataset", "cub", "cub200"),
    ("memory", "realnpv", "realnvp"),
])
def test_an_unknown_name_is_refused_with_the_closest_one(flag, wrong, closest):
    with pytest.raises(UsageError, match=f"--{flag} {wrong[:7]}.*Did you mean {closest}") as refusal:
        get_options([f"--{flag}", wrong])
    assert closest in str(refusal.value).partition("Choose one of: ")[2]


def test_names_with_a_dot_are_left_to_their_room():
    assert get_options(["--loss", "my_module.MyLoss"]).loss == "my_module.MyLoss"
    assert get_options(["--arch", "timm.resnet26_normalize"]).arch == "timm.resnet26_normalize"


def test_every_rule_names_flags_that_exist():
    known = {action.dest for action in build_parser()._actions}
    for names, condition in NO_EFFECT:
        word, switch, *_ = condition.split()
        assert word in ("with", "without", "unless")
        assert switch.removeprefix("--") in known
        for name in names.split():
            assert name in known or name.endswith("_") and any(flag.startswith(name) for flag in known)


def test_values_of_older_checkpoints_that_are_gone_are_refused_unless_they_are_only_evaluated():
    trained = vars(get_options([])) | {"policy_action": "continuous", "policy_episode": 20}
    with pytest.raises(UsageError, match="--policy_action 'continuous', which this version does not have"):
        get_options(["--resume", "auto"], trained=trained)
    argv = ["--evaluate_only", "--checkpoint", "f"]
    assert get_options(argv, trained=trained).checkpoint == "f"


def test_flags_of_older_runs_that_decide_nothing_any_more_are_passed_over(tmp_path):
    path = tmp_path / "options.json"
    path.write_text(json.dumps({"flags": {"policy_episode": 20, "bs": 56}}))
    assert get_options(["--repeat", str(path)]).bs == 56


def signature_flags(prefix, *classes, without=()):
    names = {name for cls in classes for name in inspect.signature(cls).parameters}
    return {prefix + name for name in names - {"self", "args", "kwargs", "n_classes", "embed_dim", "seed", *without}}


def flags_with(prefix):
    return {action.dest for action in build_parser()._actions if action.dest.startswith(prefix)}


def test_loss_flags_are_the_constructors_arguments():
    from criteria import CRITERIA
    from criteria.pml import PML
    expected = set().union(*(signature_flags(f"loss_{name}_", cls) for name, cls in CRITERIA.items()))
    expected |= signature_flags("loss_pml_", PML, without={"name"}) | {"loss_pml_args"}
    expected ^= {"loss_adversarial_separation_base", "loss_adversarial_separation_on"}  # a criterion, given by its name
    assert flags_with("loss_") == expected


def test_miner_flags_are_the_constructors_arguments():
    from batchminer import MINERS
    expected = set().union(*(signature_flags(f"miner_{name}_", cls) for name, cls in MINERS.items()))
    assert flags_with("miner_") == expected


def test_relation_and_policy_flags_are_the_constructors_arguments():
    from criteria.method import RELATIONS, REWARDS, WEIGHTINGS, Policy, PolicyTraining
    relations = signature_flags("relation_", *RELATIONS.values(), without=("feature_dim",))
    assert flags_with("relation_") == relations | {"relation_lr"}
    classes = (Policy, PolicyTraining, *WEIGHTINGS.values(), *REWARDS.values())
    policy = signature_flags("policy_", *classes, without=("state_dim", "weighting"))
    chosen = {"policy_action", "policy_reward", "policy_constant", "policy_lr"}
    assert flags_with("policy_") == policy | chosen


def test_dataset_flags_are_the_functions_arguments():
    from datasets import DATASETS
    for name, function in DATASETS.items():
        assert flags_with(f"{name}_") == {f"{name}_{argument}" for argument in inspect.signature(function).parameters
                                          if argument != "source_path"}


def test_xbm_flags_are_the_constructors_arguments():
    from criteria.method import CrossBatchMemory
    assert flags_with("xbm_") == signature_flags("xbm_", CrossBatchMemory, without=("base", "miner"))


def test_proxies_flags_are_the_constructors_arguments():
    from criteria.method import ClassProxies
    assert flags_with("proxies_") == signature_flags("proxies_", ClassProxies, without=("n_classes", "embed_dim"))


def test_memory_flags_are_the_constructors_arguments():
    from architectures.memory import MEMORIES, ContextualMemory
    arguments = signature_flags("memory_", ContextualMemory, *MEMORIES.values(), without=("decoding",))
    others = {"memory_weight", "memory_nll", "memory_dual", "memory_dual_loss", "memory_lr",
              "memory_target"}
    assert flags_with("memory_") == arguments | others


@pytest.mark.parametrize("name,default", [("margin", 0.2), ("beta", 1.2), ("nu", 0.0)])
def test_defaults_equal_those_of_the_signature(name, default):
    from criteria.margin import Margin
    assert inspect.signature(Margin).parameters[name].default == default
    assert vars(get_options(["--loss", "margin"]))[f"loss_margin_{name}"] == default


def test_every_flag_of_a_class_has_the_default_of_its_signature():
    from batchminer import MINERS
    from criteria import CRITERIA
    opt = vars(get_options(["--arch", "resnet50_normalize"]))
    for kind, registry in (("loss", CRITERIA), ("miner", MINERS)):
        for name, cls in registry.items():
            for argument, parameter in inspect.signature(cls).parameters.items():
                if argument not in ("n_classes", "embed_dim", "seed", "args", "kwargs", "base"):
                    assert opt[f"{kind}_{name}_{argument}"] == parameter.default, (name, argument)


def test_adversarial_separation_follows_the_loss_that_it_is_added_to():
    def separate(*argv):
        return get_options(["--loss", "adversarial_separation", *argv])

    assert loss_names(vars(separate())) == ["adversarial_separation", "multisimilarity"]
    assert separate().batch_mining == "none" and separate().pair_weighting == "learned"
    on = separate("--loss_adversarial_separation_on", "margin", "--loss_margin_nu", "0.5")
    assert on.batch_mining == "distance" and loss_arguments(on)["on_arguments"]["nu"] == 0.5
    assert loss_arguments(on)["on"] == "margin" and loss_arguments(on)["parts"] == 2
    assert separate("--loss_adversarial_separation_on", "proxyanchor").policy_action == "weight"


def test_library_losses_are_unweighted_by_default_and_keep_relation_and_memory():
    opt = get_options(["--loss", "pml.TripletMarginLoss", "--loss_pml_args", "margin=0.1", "swap=True"])
    assert (opt.pair_weighting, opt.relation, opt.memory, opt.batch_mining) == ("uniform", "gru", "realnvp", "none")
    assert loss_arguments(opt) == {"args": ["margin=0.1", "swap=True"], "lr": 1e-2}
    assert get_options(["--recipe", "paper", "--loss", "pml.CircleLoss"]).pair_weighting == "uniform"
    assert get_options(["--loss", "pml.CircleLoss", "--pair_weighting", "learned"]).pair_weighting == "learned"


def test_options_of_a_checkpoint_are_defaults_below_the_command_line():
    trained = vars(get_options(["--dataset", "image_folder", "--source_path", "x", "--arch", "resnet18_normalize",
                                "--embed_dim", "64", "--seed", "5", "--savename", "old", "--device", "cpu"]))
    argv = ["--evaluate_only", "--checkpoint", "f"]
    opt = get_options(argv, trained=trained | {"flag_of_another_version": 1})
    assert (opt.dataset, opt.source_path, opt.arch, opt.embed_dim, opt.bs) == ("image_folder", "x",
                                                                               "resnet18_normalize", 64, 180)
    assert opt.seed == 5 and (opt.savename, opt.device, opt.checkpoint, opt.evaluate_only) == ("", "auto", "f", True)
    assert not hasattr(opt, "flag_of_another_version")
    assert get_options([*argv, "--embed_dim", "32"], trained=trained).embed_dim == 32
    other = get_options([*argv, "--dataset", "glyphs"], trained=trained | {"glyphs_classes": 9})
    assert (other.dataset, other.source_path, other.glyphs_classes) == ("glyphs", ".cache", 240)
    assert other.arch == "resnet18_normalize"


def test_softtriplet_lambda_is_its_scale():
    opt = get_options(["--loss", "softtriplet", "--loss_softtriplet_lambda", "20"])
    assert kwargs_for(opt, "loss_softtriplet_")["scale"] == 20


def test_kwargs_for_strips_the_prefix():
    assert kwargs_for(get_options([]), "loss_smoothap_") == {"tau": 0.08, "exclude_self": False}


def test_every_flag_has_a_help_text():
    assert [action.dest for action in build_parser()._actions if not action.help or len(action.help) < 8] == []


def imported(*words):
    """What a command prints, and the modules that it imports."""
    command = [sys.executable, "-X", "importtime", *words]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    modules = re.findall(r"^import time:.*\| +([\w.]+)$", run.stderr, re.M)
    said = [line for line in run.stderr.splitlines() if not line.startswith("import time:")]
    return run.returncode, run.stdout, "\n".join(said), set(modules)


@pytest.mark.parametrize("argv,code,words", [
    (["--help"], 0, "default: realnvp"),
    (["--recipe", "paper", "--help"], 0, "default: glow"),
    (["--list", "losses"], 0, "smoothap"),
    (["--list", "metrics"], 0, "e_recall@<k>"),
    (["--list", "loss"], 2, "'losses'"),
    (["--los", "margin"], 2, "Did you mean --loss?"),
    (["--loss", "margn"], 2, "Did you mean margin?"),
    (["--bs", "10"], 2, "multiple of --samples_per_class"),
    (["--evaluate_only"], 2, "--checkpoint FILE"),
    (["--repeat", "/nowhere"], 2, "there is no such file"),
])
def test_what_needs_no_torch_is_answered_without_it(argv, code, words):
    returned, out, error, modules = imported("main.py", *argv)
    assert returned == code and words in out + error
    assert error.count("\n") == 0 and bool(error) == (code != 0)
    assert "argparse" in modules and not {"torch", "numpy", "PIL"} & modules


@pytest.mark.parametrize("command, flag", [("tables", "--best_by"), ("search", "--min_similarity")])
def test_help_of_commands_needs_no_torch(command, flag):
    code, out, _, modules = imported("-m", f"evaluation.{command}", "--help")
    assert code == 0 and flag in out and not {"torch", "numpy", "PIL"} & modules


def test_the_first_step_needs_no_torchvision(tmp_path):
    code, _, _, modules = imported(
        "main.py", "--glyphs_classes", "8", "--glyphs_images_per_class", "8", "--bs", "16", "--device", "cpu",
        "--n_epochs", "1", "--steps_per_epoch", "1", "--no-figures", "--save_path", str(tmp_path),
        "--source_path", str(tmp_path), "--evaluation_metrics", "e_recall@1")
    assert code == 0 and (tmp_path / "glyphs").is_dir()
    assert "torch" in modules and "torchvision" not in modules


@pytest.mark.parametrize("code", [
    "import evaluation.search.terminal",
    "from utilities.device import set_arithmetic; set_arithmetic()",
])
def test_search_and_arithmetic_need_no_compiler(code):
    returned, _, _, modules = imported("-c", code)
    assert returned == 0 and "torch" in modules
    assert not {"torchvision", "torch._dynamo", "matplotlib"} & modules


def test_the_home_folder_stands_after_an_equals_sign_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    opt = get_options(["--save_path=~/runs", "--weights_dir=~", "--savename", "~here"])
    assert (opt.save_path, opt.weights_dir) == ("/home/me/runs", "/home/me")
    # a shell has replaced it where it is not in quotes
    assert opt.savename == "~here"


def test_processes_may_say_how_long_they_wait(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert get_options(["--timeout_minutes", "0.5"]).timeout_minutes == 0.5


def test_processes_have_a_gpu_each(monkeypatch, capsys):
    assert get_options(["--gpu", "1"]).gpu == [1]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        get_options(["--gpu", "1"])
    assert "set CUDA_VISIBLE_DEVICES" in capsys.readouterr().err


def test_help_shows_fractions_as_x_and_whole_numbers_as_n():
    parser = build_parser()
    shown = dict(re.findall(r"^  --(\w+) ([XN])\b", parser.format_help(), re.M))
    assert {"X", "N"} == set(shown.values())
    for action in parser._actions:
        kind = getattr(action.type, "kind", action.type)
        if action.dest in shown and kind in (int, float):
            assert shown[action.dest] == {float: "X", int: "N"}[kind], action.dest
    assert (shown["loss_smoothap_tau"], shown["decay"], shown["seed"]) == ("X", "X", "N")

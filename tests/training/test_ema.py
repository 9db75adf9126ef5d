"""The average of the weights against its sum, and where it stands in for them."""
import copy
import io
import json

import pytest
import torch

import architectures
import main
from tests.test_main import PLAIN, flags, folder  # noqa: F401  (a fixture)
from training import bookkeeping
from training.ema import AveragedWeights
from utilities import checkpoint


def network():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)).double()


def walk(model, average, steps):
    """Random steps; the weights after each."""
    path = []
    for _ in range(steps):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        model(torch.randn(5, 3, dtype=torch.float64))                              # moves the statistics
        average.update()
        path.append({name: p.detach().clone() for name, p in model.named_parameters()})
    return path


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_it_is_the_weighted_mean_of_the_weights_after_each_step(decay, steps):
    model = network()
    average = AveragedWeights(model, decay)
    path = walk(model, average, steps)
    share = [decay ** (steps - k) for k in range(1, steps + 1)]                    # 0 ** 0 is 1
    for name, found in average.average.items():
        expected = sum(s * weights[name] for s, weights in zip(share, path)) / sum(share)
        torch.testing.assert_close(found, expected)


def test_weights_that_two_layers_share_are_averaged_under_both_names():
    model = torch.nn.Sequential(*network()[:2], torch.nn.Linear(4, 4).double(), torch.nn.Linear(4, 4).double())
    model[3].weight = model[2].weight
    average = AveragedWeights(model, 0.9)
    path = walk(model, average, 3)
    expected = sum(0.9 ** (3 - k) * path[k - 1]["2.weight"] for k in (1, 2, 3)) / (0.81 + 0.9 + 1)
    loaded = copy.deepcopy(model)
    loaded.load_state_dict(average.network_state())
    torch.testing.assert_close(loaded[3].weight.detach(), expected)
    assert loaded[3].weight is loaded[2].weight
    before = copy.deepcopy(model.state_dict())
    with average.in_place():
        torch.testing.assert_close(model[2].weight.detach(), expected)
    same(model.state_dict(), before)


def test_before_the_first_step_it_is_the_network():
    model = network()
    average = AveragedWeights(model, 0.9)
    before = copy.deepcopy(model.state_dict())
    with average.in_place():
        same(model.state_dict(), before)
    same(average.network_state(), before)


def same(a, b):
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_inside_the_network_has_it_and_after_an_error_its_own_again():
    model = network()
    average = AveragedWeights(model, 0.9)
    walk(model, average, 5)
    own, identities = copy.deepcopy(model.state_dict()), list(model.parameters())
    with pytest.raises(KeyError), average.in_place():
        inside = copy.deepcopy(model.state_dict())
        raise KeyError
    same(model.state_dict(), own)
    assert all(a is b for a, b in zip(identities, model.parameters()))
    same(inside, average.network_state())
    for name, value in inside.items():
        assert torch.equal(value, average.average.get(name, own[name]))            # buffers are the network's
        assert name not in average.average or not torch.equal(value, own[name])


def test_a_continued_average_goes_on_as_if_nothing_had_happened():
    model = network()
    average = AveragedWeights(model, 0.8)
    walk(model, average, 4)
    file = io.BytesIO()
    torch.save({"network": average.network_state(), "average": average.state_dict()}, file)
    other = network()
    continued = AveragedWeights(other, 0.8)
    state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    other.load_state_dict(state["network"])
    continued.load_state_dict(state["average"])
    same(other.state_dict(), model.state_dict())
    for net, mean in ((model, average), (other, continued)):
        torch.manual_seed(1)
        walk(net, mean, 3)
    same(continued.average, average.average)
    same(other.state_dict(), model.state_dict())


def test_it_shares_no_memory_with_the_weights():
    model = network()
    average = AveragedWeights(model, 0.9)
    walk(model, average, 2)
    own = {p.data_ptr() for p in model.parameters()}
    assert own.isdisjoint(value.data_ptr() for value in average.average.values())
    average.load_state_dict(copy.deepcopy(average.state_dict()))
    assert own.isdisjoint(value.data_ptr() for value in average.average.values())


def test_a_run_evaluates_and_saves_it_beside_the_weights_it_goes_on_with(folder, tmp_path):  # noqa: F811
    assert main.main(flags(folder, tmp_path, "--savename", "a", "--ema", "0.9", "--scheduler", "cosine", "--grad_clip",
                           "1", "--lr_warmup_epochs", "0.5", "--warmup_epochs", "1", *PLAIN)) == 0
    last = tmp_path / "image_folder" / "a" / "last.pt"
    state = checkpoint.load(last)
    own = state["optimisation"]["average"]["own"]
    assert all(not torch.equal(own[name], state["network"][name]) for name in own)
    restored, _ = architectures.restore(last)
    same(restored.state_dict(), state["network"])
    assert main.main(["--evaluate_only", "--checkpoint", str(last), "--device", "cpu", "--json",
                      str(tmp_path / "metrics.json")]) == 0
    final = json.loads((last.parent / "result.json").read_text())["final"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == final


def test_a_miner_adapts_to_it(folder, tmp_path, monkeypatch):  # noqa: F811
    runs = []
    equal = []
    adapt, score = main.adapt_miner, bookkeeping.score_split

    def adapting(run):
        runs.append(run)
        adapt(run)

    def scoring(opt, network, *rest):
        average = runs[-1].optimisation.average.average
        equal.append(all(torch.equal(p, average[name]) for name, p in network.named_parameters() if name in average))
        return score(opt, network, *rest)

    monkeypatch.setattr(main, "adapt_miner", adapting)
    monkeypatch.setattr(bookkeeping, "score_split", scoring)
    assert main.main(flags(folder, tmp_path, "--ema", "0.9", "--loss", "margin", "--batch_mining", "parametric", "--bs",
                           "8", "--miner_parametric_every", "2", "--use_tv_split", "--tv_split_perc", "0.5",
                           *PLAIN)) == 0
    assert len(equal) >= 2 and all(equal)


@pytest.mark.gpu
def test_on_a_gpu_without_synchronisation():
    model = network().cuda()
    average = AveragedWeights(model, 0.9)
    torch.cuda.set_sync_debug_mode("error")
    try:
        average.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    same(average.network_state(), model.state_dict())

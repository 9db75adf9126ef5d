"""Samplers by embeddings: the storage, and choices equal to those of the naive loops."""
from collections import Counter

import numpy as np
import pytest
import torch

from datasets.samplers import SAMPLERS, select
from datasets.samplers.coreset import Coreset, D2Coreset, GreedyCoreset
from tests.oracles import samplers as oracle

LABELS = [label for label in range(12) for _ in range(3 + label % 5)][::-1]
N = len(LABELS)
BY_STORAGE = [name for name, sampler in SAMPLERS.items() if sampler.needs_storage]


def made(name, bs=8, samples_per_class=2, batchmatch_bigbs=20, dim=4, **further):
    sampler = select(
        name,
        LABELS,
        bs=bs,
        samples_per_class=samples_per_class,
        batchmatch_bigbs=batchmatch_bigbs,
        **further,
    )
    sampler.fill(torch.randn(N, dim))
    return sampler


def rows64(x):
    return list(x.double().numpy())


# -------------------------------------------------------------------------------------- the storage


@pytest.mark.parametrize("name", BY_STORAGE)
def test_the_plan_follows_from_the_storage_at_the_epochs_start(name):
    sampler = made(name)
    twin = made(name)
    twin.fill(sampler.storage)
    plan = sampler.plan(0)
    # while the epoch runs
    sampler.update(torch.randn(N, 4), torch.arange(N))
    assert torch.equal(sampler.plan(0), plan) and torch.equal(twin.plan(0), plan)
    assert not torch.equal(sampler.plan(1), twin.plan(1))
    twin.fill(sampler.storage)
    twin.planned = None
    assert torch.equal(sampler.plan(1), twin.plan(1))


@pytest.mark.parametrize("name", BY_STORAGE)
def test_resuming_within_an_epoch_that_updates_the_storage(name):
    embeddings = torch.randn(6, 8, 4)

    def train(sampler, steps):
        seen = []
        for step in steps:
            batch = next(iter(sampler))
            sampler.update(embeddings[step % 6], torch.tensor(batch))
            seen.append(batch)
        return seen

    def begun():
        sampler = made(name, mb_mom=0.5)
        sampler.fill(first)
        return sampler

    whole = made(name)
    first = torch.randn(N, 4)
    steps = range(2 * len(whole) + 1)
    expected = train(begun(), steps)
    for cut in (0, 2, len(whole), len(whole) + 3):
        stopped = begun()
        resumed = made(name, mb_mom=0.5)
        train(stopped, steps[:cut])
        resumed.load_state_dict(stopped.state_dict())
        assert train(resumed, steps[cut:]) == expected[cut:]


def test_updates_replace_rows_by_unit_ones_the_last_where_an_image_repeats():
    sampler = made("greedy_coreset")
    before = sampler.storage.clone()
    new = 3 * torch.randn(5, 4)
    sampler.update(new.requires_grad_(), torch.tensor([4, 7, 4, 0, 7]))
    for row, last in ((4, 2), (7, 4), (0, 3)):
        assert torch.allclose(sampler.storage[row], new[last] / new[last].norm())
        before[row] = sampler.storage[row]
    assert torch.equal(sampler.storage, before) and not sampler.storage.requires_grad


def test_momentum_adds_the_averaged_drift():
    sampler = made("d2_coreset", mb_mom=0.8, mb_lr=0.5)
    s = sampler.storage[3].clone()
    d = torch.zeros(4)
    for _ in range(4):
        e = torch.nn.functional.normalize(torch.randn(4), dim=0)
        sampler.update(e[None], torch.tensor([3]))
        d = 0.8 * d + 0.2 * (e - s)
        s = e + 0.5 * d
        assert torch.allclose(sampler.storage[3], s, atol=1e-6)


def test_no_update_keeps_the_storage():
    sampler = made("fid_batchmatch", storage_no_update=True)
    before = sampler.storage.clone()
    sampler.update(torch.randn(2, 4), torch.tensor([0, 1]))
    assert torch.equal(sampler.storage, before)


@pytest.mark.parametrize("name", BY_STORAGE)
def test_the_storage_stays_on_its_device(name):
    """Any device but the CPU: "meta" keeps no numbers, and there is one everywhere."""
    sampler = made(name, device="meta", mb_mom=0.5)
    sampler.update(torch.randn(2, 4), torch.tensor([0, 1]))
    kept = [sampler.storage, sampler.drift]
    sampler.load_state_dict(
        {**sampler.state_dict(), "storage": torch.ones(N, 4), "drift": torch.ones(N, 4)}
    )
    assert {part.device.type for part in [*kept, sampler.storage, sampler.drift]} == {"meta"}


def test_the_storage_is_a_copy_and_is_needed():
    given = torch.nn.functional.normalize(torch.randn(N, 4), dim=1)
    sampler = made("greedy_coreset")
    kept = given.clone()
    sampler.fill(given)
    sampler.update(torch.randn(2, 4), torch.tensor([0, 1]))
    assert torch.equal(given, kept)
    with pytest.raises(RuntimeError, match="fill"):
        select("greedy_coreset", LABELS, bs=8, samples_per_class=2).plan(0)


@pytest.mark.parametrize("name", BY_STORAGE)
def test_a_random_projection_decides_in_fewer_dimensions(name, monkeypatch):
    spaces = []
    sampler = made(name, dim=16, sampler_lowproj_dim=3)
    monkeypatch.setattr(sampler, "choose", lambda space, generator: spaces.append(space))
    for epoch in range(2):
        sampler.plan(epoch)
    assert [space.shape for space in spaces] == [(N, 3)] * 2 and not torch.allclose(*spaces)
    # a linear map of the storage
    directions = torch.linalg.lstsq(sampler.storage, spaces[0]).solution
    assert torch.allclose(sampler.storage @ directions, spaces[0], atol=1e-5)


def test_projections_keep_lengths_on_average():
    sampler = made("greedy_coreset", dim=8, sampler_lowproj_dim=200)
    assert sampler._space(torch.Generator().manual_seed(0)).square().sum(1).mean() == pytest.approx(
        1, rel=0.1
    )


# ----------------------------------------------------------------------------------------- coresets


@pytest.mark.parametrize(
    "name", [name for name in BY_STORAGE if issubclass(SAMPLERS[name], Coreset)]
)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_centres_are_followed_by_other_images_of_their_class(name, k):
    sampler = made(name, samples_per_class=k)
    for epoch in range(5):
        for batch in sampler.plan(epoch).view(-1, 8 // k, k).tolist():
            assert len({centre[0] for centre in batch}) == 8 // k
            centres = Counter(LABELS[centre[0]] for centre in batch)
            for label in centres:
                of_class = Counter(
                    row for centre in batch if LABELS[centre[0]] == label for row in centre
                )
                assert {LABELS[row] for row in of_class} == {label}
                images = LABELS.count(label)
                wanted = k * centres[label]
                assert len(of_class) == min(images, wanted) and max(of_class.values()) <= -(
                    -wanted // images
                )


@pytest.mark.parametrize("table", [2**24, 1])
def test_images_take_turns_as_candidates(table, monkeypatch):
    # all batches at once, one by one
    monkeypatch.setattr("datasets.samplers.coreset.TABLE", table)
    sampler = made("greedy_coreset", samples_per_class=1)
    seen = []
    some = torch.arange(3, 11)
    monkeypatch.setattr(
        sampler, "centres", lambda x, generator: seen.append(x) or some.repeat(len(x), 1)
    )
    plan = sampler.choose(torch.arange(N)[:, None], torch.Generator().manual_seed(0))
    candidates = torch.cat(seen).flatten(1)
    assert len(seen) == (1 if table > 1 else N // 8) and candidates.shape == (N // 8, 20)
    assert torch.equal(plan, candidates[:, some])
    assert all(len(set(batch)) == 20 for batch in candidates.tolist())
    assert len(candidates[:2].unique()) == 40


@pytest.mark.parametrize("number, dim, centres", [(12, 3, 6), (9, 1, 9), (30, 8, 5), (4, 2, 1)])
def test_greedy_takes_the_farthest(number, dim, centres):
    sampler = made("greedy_coreset", bs=centres, samples_per_class=1)
    x = torch.randn(7, number, dim)
    for batch, chosen in zip(x, sampler.centres(x, torch.Generator()).tolist()):
        assert chosen == oracle.greedy_centres(rows64(batch), chosen[0], centres)


def test_greedy_starts_anywhere():
    first = made("greedy_coreset").centres(
        torch.randn(200, 5, 2), torch.Generator().manual_seed(0)
    )[:, 0]
    assert set(first.tolist()) == set(range(5))


def test_softened_greedy_draws_among_the_farthest():
    sampler = made("greedy_coreset", bs=4, samples_per_class=1, gc_softened=True)
    x = torch.randn(1, 90, 3)
    batch = rows64(x[0])
    second = Counter()
    for chosen in sampler.centres(x.expand(60, -1, -1), torch.Generator().manual_seed(0)).tolist():
        assert len(set(chosen)) == 4
        for k in range(1, 4):
            assert chosen[k] in oracle.softened_choices(batch, chosen[:k])
        second[chosen[1] == oracle.greedy_centres(batch, chosen[0], 2)[1]] += 1
    # not always the farthest
    assert min(second[True], second[False]) > 0


@pytest.mark.parametrize("power, number, "
                         "dim", [(1.0, 12, 2), (0.0, 12, 2), (3.0, 15, 4), (1.0, 6, 9)])
def test_d2_draws_by_density_and_distance(power, number, dim):
    sampler = made("d2_coreset", bs=5, samples_per_class=1, d2_coreset_lambda=power)
    x = torch.randn(6, number, dim)
    chosen = sampler.centres(x, torch.Generator().manual_seed(3)).tolist()
    again = torch.Generator().manual_seed(3)
    noise = torch.randn(6, number, 1, generator=again)[..., 0].double().numpy()
    waiting = torch.stack(
        [torch.empty(6, number).exponential_(generator=again) for _ in range(4)], dim=1
    ).double()
    expected = [
        oracle.d2_centres(rows64(batch), n, w, power)
        for batch, n, w in zip(x, noise, waiting.numpy())
    ]
    assert chosen == expected


def test_d2_probabilities_are_met():
    sampler = made("d2_coreset", bs=3, samples_per_class=1)
    x = torch.randn(1, 6, 2)
    drawn = sampler.centres(x.expand(20_000, -1, -1), torch.Generator().manual_seed(0)).tolist()
    start = Counter(first for first, *_ in drawn).most_common(1)[0][0]
    second = Counter(then for first, then, _ in drawn if first == start)
    for row, chance in enumerate(oracle.d2_probabilities(rows64(x[0]), [start], 1.0)):
        n = sum(second.values())
        assert abs(second[row] - n * chance) <= 4.5 * (n * chance * (1 - chance))**0.5 + 1e-9


@pytest.mark.parametrize("sampler", [GreedyCoreset, D2Coreset])
def test_collapsed_embeddings_still_give_different_centres(sampler):
    sampler = sampler(LABELS, bs=8, samples_per_class=1)
    chosen = sampler.centres(torch.ones(5, 9, 3), torch.Generator().manual_seed(0))
    assert all(len(set(batch)) == 8 for batch in chosen.tolist())


# ----------------------------------------------------------------------------------- batch matching

MATCHES = {
    "disthist_batchmatch": oracle.histogram_distance,
    "fid_batchmatch": oracle.frechet_distance,
}


@pytest.mark.parametrize("name", MATCHES)
@pytest.mark.parametrize("bs, k, bigbs, dim", [(8, 2, 20, 3), (6, 3, 50, 2), (4, 1, 30, 1)])
def test_the_candidate_that_matches_best_is_taken(name, bs, k, bigbs, dim, monkeypatch):
    sampler = made(
        name, bs=bs, samples_per_class=k, batchmatch_bigbs=bigbs, batchmatch_ncomps=7, dim=dim
    )
    asked = []
    best = sampler.best
    monkeypatch.setattr(
        sampler, "best", lambda x, place: asked.append((x, place)) or best(x, place)
    )
    space = sampler.storage + torch.randn(N, dim)
    plan = sampler.choose(space, torch.Generator().manual_seed(0))
    assert len(asked) == len(plan) == N // bs
    for (x, places), batch in zip(asked, plan):
        assert places.shape == (7, bs) and len(x) <= bigbs
        mismatch = [MATCHES[name](rows64(x), place) for place in places.tolist()]
        assert torch.equal(space[batch], x[places[int(np.argmin(mismatch))]])
        assert len(set(mismatch)) > 1


def test_the_frechet_distance_itself():
    sampler = made("fid_batchmatch")
    x = torch.randn(30, 5)
    places = torch.stack([torch.randperm(30)[:8] for _ in range(4)])
    found = sampler.mismatch(x, places)
    expected = [oracle.frechet_distance(rows64(x), place) for place in places.tolist()]
    assert found.numpy() == pytest.approx(np.array(expected), rel=1e-6)
    assert sampler.mismatch(x, torch.arange(30)[None]).item() == pytest.approx(0, abs=1e-7)


def test_the_frechet_distance_with_fewer_images_than_dimensions():
    """Gaussians on two orthogonal lines: tr (S_B S_b)^(1/2) by hand."""
    sampler = made("fid_batchmatch")
    x = torch.zeros(5, 20)
    x[:4, 0], x[4, 1] = torch.tensor([-1.0, 1.0, -1.0, 1.0]), 0.0
    place = torch.tensor([[0, 1]])
    # variances along the first axis
    big = 4 / 4
    small = 2 / 1
    assert sampler.mismatch(x, place).item() == pytest.approx(
        big + small - 2 * (big * small) ** 0.5, abs=1e-7
    )


def test_the_histogram_distance_itself():
    sampler = made("disthist_batchmatch")
    x = torch.randn(20, 3)
    places = torch.stack([torch.randperm(20)[:6] for _ in range(5)])
    apart = oracle.distances(rows64(x))
    width = (max(apart) - min(apart)) / 50
    expected = [oracle.histogram_distance(rows64(x), place) / width for place in places.tolist()]
    assert sampler.mismatch(x, places).numpy() == pytest.approx(np.array(expected), rel=1e-5)


@pytest.mark.parametrize("name", MATCHES)
@pytest.mark.parametrize("bs, k, bigbs", [(8, 2, 20), (24, 2, 200), (12, 4, 12), (6, 1, 40)])
def test_candidates_are_composed_as_class_random(name, bs, k, bigbs):
    sampler = made(name, bs=bs, samples_per_class=k, batchmatch_bigbs=bigbs)
    for batch in sampler.plan(0).tolist() + sampler.plan(1).tolist():
        count = Counter(LABELS[row] for row in batch)
        assert len(count) == bs // k and set(count.values()) == {k}
        rows = Counter(batch)
        assert all(rows[row] == 1 or LABELS.count(LABELS[row]) < k for row in rows)


@pytest.mark.parametrize("name", BY_STORAGE)
def test_collapsed_embeddings_are_no_hindrance(name):
    sampler = made(name)
    sampler.fill(torch.ones(N, 4))
    assert sampler.plan(0).shape == (N // 8, 8)


@pytest.mark.gpu
@pytest.mark.parametrize("name", BY_STORAGE)
def test_on_the_gpu_the_same_batches(name):
    torch.manual_seed(0)
    here = made(name, batchmatch_bigbs=30)
    there = made(name, batchmatch_bigbs=30, device="cuda")
    there.fill(here.storage.double().float())
    assert there.storage.is_cuda
    # but for near ties
    assert (here.plan(0) == there.plan(0).cpu()).float().mean() > 0.9
    there.update(torch.randn(2, 4), torch.tensor([0, 1]))
    resumed = made(name, device="cuda")
    resumed.load_state_dict({key: value.cpu() if torch.is_tensor(value) else value
                             for key, value in there.state_dict().items()})
    assert torch.equal(resumed.storage, there.storage) and torch.equal(
        resumed.plan(0), there.plan(0)
    )


@pytest.mark.parametrize("name", MATCHES)
def test_a_large_batch_has_at_most_the_training_images(name):
    plans = []
    for number in (N, 10**9):
        torch.manual_seed(0)
        sampler = made(name, batchmatch_bigbs=number)
        assert sampler.big_classes * sampler.big_images <= N
        plans.append(list(sampler))
    assert plans[0] == plans[1]

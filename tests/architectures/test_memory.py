"""The contextual memory and its controls: what they learn and decode, and that it repeats."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from architectures.memory import DECODINGS, MEMORIES, select
from flows.layers import ActNorm
from tests.flows.harness import perturb
from utilities.errors import UsageError

SMALL = {"couplings": 2, "hidden": 16, "levels": 1, "steps": 1, "channels": 4, "samples": 4}
DIM = 32


def memory(name, dim=DIM, **arguments):
    """Far from the identity, and the same each time whatever has been drawn before."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return perturb(select(name, dim, **(SMALL | arguments)), scale=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MEMORIES)
def test_shapes_ranges_and_types(name, dtype):
    model = memory(name).to(dtype)
    u = torch.randn(5, DIM, dtype=dtype)
    e = torch.randn(5, DIM, dtype=dtype)
    model.train()
    for rows in (1, 5):
        loss = model.nll(u[:rows], e[:rows])
        decoded = model.decode(e[:rows])
        assert loss.shape == (rows,)
        assert loss.dtype == dtype
        assert loss.isfinite().all()
        assert decoded.shape == (rows, DIM)
        assert decoded.dtype == dtype
        assert (decoded > 0).all()
        assert (decoded < 1).all()


@pytest.mark.parametrize("name", MEMORIES)
def test_extreme_contexts_and_noise_stay_finite_and_inside(name):
    model = memory(name)
    e = torch.randn(3, DIM)
    assert model.nll(torch.tensor([[-40.0], [0.0], [40.0]]).expand(3, DIM), e).isfinite().all()
    decoded = model.decode(e, 50 * torch.randn(3, DIM))
    assert (decoded > 0).all()
    assert (decoded < 1).all()


@pytest.mark.parametrize("name", MEMORIES)
def test_no_gradient_reaches_context_embedding_or_through_decoding(name):
    model = memory(name).train()
    u = torch.randn(5, DIM, requires_grad=True)
    e = torch.randn(5, DIM, requires_grad=True)
    model.nll(u, e).mean().backward()
    assert u.grad is None
    assert e.grad is None
    assert all(p.grad is not None for p in model.parameters())
    assert not model.decode(e).requires_grad
    for way in DECODINGS[:3]:
        model.decoding = way
        assert not model.training_context(e).requires_grad
        assert not model.context(e, torch.arange(5)).requires_grad


@pytest.mark.parametrize("name", MEMORIES)
def test_half_precision_and_autocast_are_computed_in_float32(name):
    model = memory(name)
    u = torch.randn(5, DIM)
    e = torch.randn(5, DIM)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.nll(u, e), memory(name).nll(u, e))
        loss = model.nll(u.bfloat16(), e.bfloat16())
        decoded = model.decode(e.bfloat16())
    assert loss.dtype == decoded.dtype == torch.float32
    rounded = model.nll(u.bfloat16().float(), e.bfloat16().float())
    torch.testing.assert_close(loss, rounded, rtol=0, atol=0)


# --- what the losses are


def log_det_by_autograd(latent, x):
    """log |det| of the Jacobian of `latent`, a function of one row x (1, D) -> (D,)."""
    jacobian = torch.autograd.functional.jacobian(latent, x)[:, 0]  # (D, D)
    return torch.linalg.slogdet(jacobian)[1]


def test_realnvp_nll_is_that_of_its_flow_per_dimension_by_the_jacobian():
    model = memory("realnvp", 4).double()
    u = torch.randn(1, 4, dtype=torch.float64)
    e = torch.randn(1, 4, dtype=torch.float64)

    def latent(u):
        return model.flow(u, normalize(e))[0][0]

    log_base = sum(-0.5 * v**2 - 0.5 * math.log(2 * math.pi) for v in latent(u).tolist())
    log_p = log_base + log_det_by_autograd(latent, u)
    torch.testing.assert_close(model.nll(u, e), -log_p.reshape(1) / 4)


def test_glow_input_is_the_bounded_logit_of_the_dequantised_context():
    model = memory("glow").double()
    c = torch.rand(1, DIM, dtype=torch.float64)
    x, log_det = model.to_flow(c.logit())
    expected = []
    total = 0.0
    for value in c[0].tolist():
        dequantised = (255 * value + 0.5) / 256
        y = ((2 * dequantised - 1) * 0.95 + 1) / 2
        expected.append(math.log(y / (1 - y)))
        total += math.log(0.95 / (y * (1 - y)))
    torch.testing.assert_close(x[0], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(log_det[0], torch.tensor(total, dtype=torch.float64))


def test_glow_nll_is_the_density_of_the_dequantised_context():
    """The chain x -> bounded logit -> latent, differentiated as one."""
    model = memory("glow").double()
    e = torch.randn(1, DIM, dtype=torch.float64)
    c = torch.rand(1, DIM, dtype=torch.float64)

    def latent(x):
        y = ((2 * x - 1) * 0.95 + 1) / 2
        return model.flow(y.logit(), e)[0][0]

    x = (255 * c + 0.5) / 256
    log_base = torch.distributions.Normal(0, 1).log_prob(latent(x)).sum()
    log_p = log_base + log_det_by_autograd(latent, x)
    torch.testing.assert_close(model.nll(c.logit(), e), -log_p.reshape(1) / DIM)


def test_glow_noise_is_uniform_within_a_level_in_training_and_absent_otherwise():
    model = memory("glow")
    logit = torch.full((400, DIM), 0.3)
    assert torch.equal(model.to_flow(logit)[0], model.to_flow(logit)[0])
    model.train()
    torch.manual_seed(5)
    y = model.to_flow(logit)[0].double().sigmoid()
    x = ((2 * y - 1) / 0.95 + 1) / 2
    noise = (256 * x - 255 / (1 + math.exp(-0.3))).flatten()
    assert noise.min() > -1e-3
    assert noise.max() < 1.001
    assert abs(noise.mean() - 0.5) < 0.01
    assert abs(noise.var() - 1 / 12) < 0.005
    assert not torch.equal(model.to_flow(logit)[0], model.to_flow(logit)[0])


@pytest.mark.parametrize("name", ["constant", "mlp"])
def test_controls_lose_half_the_squared_error_of_what_they_decode(name):
    model = memory(name)
    u = torch.randn(3, DIM)
    e = torch.randn(3, DIM)
    decoded = model.decode(e)
    expected = []
    for logits, row in zip(u.tolist(), decoded.tolist()):
        squares = [(1 / (1 + math.exp(-a)) - b) ** 2 for a, b in zip(logits, row)]
        expected.append(sum(squares) / DIM / 2)
    torch.testing.assert_close(model.nll(u, e), torch.tensor(expected))
    assert torch.equal(decoded, model.decode(e, torch.randn(3, DIM)))
    assert torch.equal(decoded[0], decoded[1]) == (name == "constant")


@pytest.mark.parametrize("name", ["realnvp", "mlp"])
def test_the_condition_is_the_direction_of_the_embedding(name):
    model = memory(name)
    u = torch.randn(3, DIM)
    e = torch.randn(3, DIM)
    torch.testing.assert_close(model.nll(u, e), model.nll(u, 7 * e), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.decode(e), model.decode(7 * e), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model.decode(e), model.decode(-e), atol=1e-3)
    assert not torch.allclose(model.nll(u, e), model.nll(u, -e), atol=1e-4)


def test_the_condition_of_glow_is_the_embedding_itself():
    model = memory("glow")
    e = torch.randn(3, DIM)
    assert not torch.allclose(model.decode(e), model.decode(7 * e), atol=1e-3)


def test_decoding_the_latent_of_a_context_gives_the_context():
    model = memory("realnvp").double()
    e = torch.randn(5, DIM, dtype=torch.float64)
    u = torch.randn(5, DIM, dtype=torch.float64)
    z, _ = model.flow(u, normalize(e))
    torch.testing.assert_close(model.decode(e, z), u.sigmoid())


def test_decoding_the_latent_of_glow_leaves_the_bound_in():
    model = memory("glow").double()
    e = torch.randn(5, DIM, dtype=torch.float64)
    c = torch.rand(5, DIM, dtype=torch.float64)
    z, _ = model.flow(model.to_flow(c.logit())[0], e)
    x = (255 * c + 0.5) / 256
    torch.testing.assert_close(model.decode(e, z), ((2 * x - 1) * 0.95 + 1) / 2)


@pytest.mark.parametrize("name", ["realnvp", "glow", "mlp"])
def test_gradient_of_the_second_loss_where_it_is_asked_for(name):
    e = torch.randn(5, DIM, requires_grad=True)
    fixed = memory(name).train()
    assert not fixed.training_context(e).requires_grad
    trained = memory(name, gradient=True).train()
    trained.training_context(e).square().sum().backward()
    assert e.grad.abs().max() > 0
    used = [p.grad for p in trained.parameters() if p.grad is not None]
    assert used and any(g.abs().max() > 0 for g in used)


# --- learning


def learn(name, embedding, logit, steps=200):
    model = select(name, embedding.shape[1], couplings=2, hidden=32).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        rows = torch.randint(len(embedding), (64,))
        optimizer.zero_grad()
        model.nll(logit[rows], embedding[rows]).mean().backward()
        optimizer.step()
    return model.eval()


def test_memory_learns_a_context_that_the_embedding_determines():
    embedding = torch.randn(1200, 8)
    mixing = torch.randn(8, 8)
    logit = 2 * torch.tanh(2 * normalize(embedding) @ mixing) + 0.3 * torch.randn(1200, 8)
    unseen = logit[1000:].sigmoid()

    def error_of(decoded):
        return float((decoded - unseen).square().mean())

    error = {}
    for name in ("realnvp", "mlp", "constant"):
        model = learn(name, embedding[:1000], logit[:1000])
        error[name] = error_of(model.decode(embedding[1000:]))
    assert error["realnvp"] < 0.35 * error["constant"]
    assert error["mlp"] < 0.35 * error["constant"]
    best_constant = error_of(logit[:1000].sigmoid().mean(0))
    assert error["constant"] < 1.1 * best_constant


@torch.no_grad()
def test_samples_of_a_trained_memory_spread_as_the_context_does():
    embedding = torch.randn(600, 4)
    logit = normalize(embedding) + 0.5 * torch.randn(600, 4)
    with torch.enable_grad():
        model = learn("realnvp", embedding, logit)
    model.decoding = "sample"
    model.temperature = 1.0
    drawn = model.context(embedding, torch.arange(600)).logit() - normalize(embedding)
    assert (drawn.std(0) - 0.5).abs().max() < 0.15
    assert drawn.mean(0).abs().max() < 0.2


# --- the ways to decode


@pytest.mark.parametrize("name", MEMORIES)
def test_mode_is_zero_noise_and_repeats(name):
    model = memory(name)
    e = torch.randn(5, DIM)
    expected = model.decode(e, torch.zeros(5, DIM))
    for value in (model.decode(e), model.decode(e), model.context(e), model.training_context(e)):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("name", ["realnvp", "glow"])
def test_mean_averages_the_same_draws_for_every_image(name):
    model = memory(name, decode="mean", samples=6)
    e = torch.randn(5, DIM)
    mean = model.context(e)
    assert torch.equal(mean, model.context(e))
    assert torch.equal(mean, model.training_context(e))
    torch.testing.assert_close(mean[2:3], model.context(e[2:3]), rtol=1e-4, atol=1e-5)
    twins = model.context(e[:1].expand(4, DIM))
    torch.testing.assert_close(twins, mean[:1].expand(4, DIM), rtol=1e-4, atol=1e-5)
    mode = memory(name).context(e)
    assert not torch.allclose(mean, mode, atol=1e-3)
    cold = memory(name, decode="mean", temperature=0.0).context(e)
    torch.testing.assert_close(cold, mode, rtol=1e-4, atol=1e-5)


def test_mean_of_many_draws_is_the_expectation():
    model = memory("realnvp", 4, decode="mean", samples=4000)
    e = torch.randn(2, 4)
    noise = 0.6 * torch.randn(16_000, 4)
    drawn = model.decode(e.repeat_interleave(8000, 0), noise)  # (16000, 4)
    expected = drawn.view(2, 8000, 4).mean(1)
    torch.testing.assert_close(model.context(e), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["realnvp", "glow"])
def test_sample_belongs_to_the_image_and_not_to_the_batch(name):
    model = memory(name, decode="sample")
    e = torch.randn(4, DIM)
    index = torch.tensor([17, 3, 900, 4])
    first = model.context(e, index)
    torch.manual_seed(123)
    assert torch.equal(first, model.context(e, index))
    alone = model.context(e[2:3], index[2:3])
    torch.testing.assert_close(first[2:3], alone, rtol=1e-4, atol=1e-5)
    reordered = model.context(e.flip(0), index.flip(0))
    torch.testing.assert_close(first.flip(0), reordered, rtol=1e-4, atol=1e-5)
    others = model.context(e, torch.tensor([17, 5, 6, 7]))
    torch.testing.assert_close(first[0], others[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first[1:], others[1:], atol=1e-3)


def test_sample_in_training_is_fresh():
    model = memory("realnvp", decode="sample")
    e = torch.randn(4, DIM)
    assert not torch.equal(model.training_context(e), model.training_context(e))


def test_temperature_scales_the_noise_of_samples():
    e = torch.randn(4, DIM)
    mode = memory("realnvp").context(e)

    def distance_to_mode(temperature):
        model = memory("realnvp", decode="sample", temperature=temperature)
        return (model.context(e, torch.arange(4)) - mode).norm()

    assert distance_to_mode(0.0) == 0
    assert 1e-2 < distance_to_mode(0.3) < distance_to_mode(0.6)


def test_sample_without_an_index_is_refused():
    with pytest.raises(UsageError, match="--memory_decode sample.*ind"):
        memory("realnvp", decode="sample").context(torch.randn(2, DIM))


@pytest.mark.parametrize("name", MEMORIES)
def test_off_adds_nothing(name):
    model = memory(name, decode="off")
    assert model.context(torch.randn(2, DIM)) is None
    assert model.training_context(torch.randn(2, DIM)) is None
    assert model.nll(torch.randn(2, DIM), torch.randn(2, DIM)).isfinite().all()


# --- names, flags, state


@pytest.mark.parametrize(
    "arguments,words",
    [
        ({"decode": "median"}, "--memory_decode median.*mode, mean, sample, off"),
        ({"temperature": -1.0}, "--memory_temperature -1.0"),
        ({"temperature": float("nan")}, "--memory_temperature nan"),
        ({"samples": 0}, "--memory_samples 0"),
    ],
)
@pytest.mark.parametrize("name", MEMORIES)
def test_wrong_arguments_are_refused(name, arguments, words):
    with pytest.raises(UsageError, match=words):
        select(name, DIM, **(SMALL | arguments))


def test_names():
    assert select("none", DIM, couplings=3) is None
    assert all(type(select(name, DIM, **SMALL)) is cls for name, cls in MEMORIES.items())
    with pytest.raises(UsageError, match="--memory realnpv.*realnvp.*none"):
        select("realnpv", DIM)


def test_glow_refuses_an_embedding_that_is_no_image():
    with pytest.raises(UsageError, match="--embed_dim 100.*multiple of 64"):
        select("glow", 100)
    assert select("realnvp", 100, couplings=1) is not None


def seeded_nll(model, u, e):
    torch.manual_seed(0)
    return model.nll(u, e)


@pytest.mark.parametrize("name", MEMORIES)
def test_state_survives_a_checkpoint_and_is_not_initialised_again(name):
    model = select(name, DIM, **SMALL).train()
    e = torch.randn(16, DIM)
    # the first batch sets the scales
    model.nll(3 + torch.randn(16, DIM), e)
    loaded = select(name, DIM, **SMALL).train()
    loaded.load_state_dict(model.state_dict())
    u = torch.randn(16, DIM)
    expected = seeded_nll(model, u, e)
    assert torch.equal(seeded_nll(loaded, u, e), expected)
    assert torch.equal(model.decode(e), loaded.decode(e))
    assert all(m.initialised for m in loaded.modules() if isinstance(m, ActNorm))

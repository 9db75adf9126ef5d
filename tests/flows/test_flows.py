"""Every flow through the harness, and what is particular to each."""
import copy

import pytest
import torch
from torch.nn.functional import conv2d

from flows import FLOWS, Glow, RealNVP
from flows.base import FlowStack
from flows.image_layers import ConvolutionalCoupling, InvertibleConvolution
from flows.layers import ActNorm, ConditionalCoupling, InvertibleLinear
from tests.flows.harness import check_flow, perturb
from utilities.errors import UsageError

CASES = {
    "actnorm, vector": (lambda: ActNorm(6), (6,), None),
    "actnorm, image": (lambda: ActNorm(3), (3, 2, 4), None),
    "linear, vector": (lambda: InvertibleLinear(7), (7,), None),
    "convolution": (lambda: InvertibleConvolution(4), (4, 2, 3), None),
    "coupling, vector": (lambda: ConditionalCoupling(6, 4, 16), (6,), (4,)),
    "coupling, odd, swapped": (lambda: ConditionalCoupling(5, 3, 16, swap=True), (5,), (3,)),
    "coupling, no context": (lambda: ConditionalCoupling(5, 0, 16), (5,), None),
    "coupling, image": (lambda: ConvolutionalCoupling(4, 3, 8), (4, 4, 2), (3, 4, 2)),
    "stack": (lambda: FlowStack(ActNorm(4), InvertibleConvolution(4)), (4, 2, 2), None),
    "realnvp": (lambda: RealNVP(6, 5, couplings=4, hidden=16), (6,), (5,)),
    "realnvp, one coupling": (lambda: RealNVP(4, 4, couplings=1, hidden=8), (4,), (4,)),
    "glow": (lambda: Glow(64, 64, levels=2, steps=2, channels=8), (64,), (64,)),
    "glow, one level": (lambda: Glow(32, 32, levels=1, steps=1, channels=4), (32,), (32,)),
    "glow, three levels": (lambda: Glow(128, 128, levels=3, steps=1, channels=4), (128,), (128,)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_contract(case, dtype):
    build, shape, context_shape = CASES[case]
    check_flow(perturb(build()), shape, context_shape, dtype)


def test_every_registered_flow_has_a_case():
    assert set(FLOWS) <= set(CASES) and all(
        type(CASES[name][0]()) is cls for name, cls in FLOWS.items()
    )


@pytest.mark.parametrize(
    "name,dim,arguments",
    [("realnvp", 512, {}), ("glow", 512, {"channels": 16})],
    ids=["realnvp", "glow"],
)
def test_inverse_at_full_size(name, dim, arguments):
    flow = perturb(FLOWS[name](dim, dim, **arguments), scale=0.02)
    x, context = torch.randn(3, dim), torch.nn.functional.normalize(torch.randn(3, dim))
    with torch.no_grad():
        z, log_det = flow(x, context)
        back, log_det_back = flow.inverse(z, context)
    assert (back - x).abs().max() < 1e-3 and not torch.allclose(z, x, atol=0.1)
    torch.testing.assert_close(log_det, -log_det_back, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_is_reached_by_the_likelihood(case):
    build, shape, context_shape = CASES[case]
    flow = perturb(build())
    flow.log_prob(
        torch.randn(3, *shape), context_shape and torch.randn(3, *context_shape)
    ).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in flow.parameters())


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(CASES[case][1]) == 1 and "glow" not in case]
)
def test_an_empty_batch_passes_through(case):
    build, shape, context_shape = CASES[case]
    flow = build()
    context = context_shape and torch.zeros(0, *context_shape)
    z, log_det = flow(torch.zeros(0, *shape), context)
    assert flow.inverse(z, context)[0].shape == (0, *shape) and log_det.shape == (0,)
    assert all(p.isfinite().all() for p in flow.parameters())


# --- activation normalisation


@pytest.mark.parametrize("shape", [(64, 5), (8, 5, 3, 4)])
def test_actnorm_normalises_its_first_training_batch_and_only_that(shape):
    norm, x = ActNorm(5), 3 + 4 * torch.randn(shape)
    untouched = norm.eval()(x)[0]
    assert torch.equal(untouched, x) and not norm.initialised
    z = norm.train()(x)[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(z.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(1, correction=0), torch.ones(5))
    assert norm.initialised
    before = copy.deepcopy(norm.state_dict())
    norm(x + 10)
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())


def test_actnorm_keeps_its_state_through_a_state_dict():
    norm, x, other = ActNorm(5), 3 + torch.randn(16, 5), torch.randn(16, 5)
    norm(x)
    loaded = ActNorm(5)
    loaded.load_state_dict(norm.state_dict())
    assert torch.equal(loaded.train()(other)[0], norm(other)[0]) and loaded.initialised


def test_actnorm_initialises_again_after_an_untouched_state_was_loaded():
    norm, x = ActNorm(5), 3 + torch.randn(16, 5)
    norm(x)
    norm.load_state_dict(ActNorm(5).state_dict())
    torch.testing.assert_close(norm(2 * x)[0].mean(0), torch.zeros(5), atol=1e-5, rtol=0)


def test_actnorm_of_constant_channels_or_one_row_keeps_scale_one():
    norm = ActNorm(3)
    norm(torch.full((1, 3), 2.0))
    assert torch.equal(norm.log_scale, torch.zeros(3)) and torch.equal(
        norm.bias, torch.full((3,), -2.0)
    )


# --- linear maps, couplings


def test_linear_starts_as_a_rotation():
    linear, x = InvertibleLinear(6), torch.randn(5, 6)
    z, log_det = linear(x)
    torch.testing.assert_close(z.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close(log_det, torch.zeros(5), atol=1e-5, rtol=0)
    assert not torch.allclose(z, x, atol=0.1)


def test_the_convolution_starts_as_a_rotation_of_each_position():
    convolution, image = InvertibleConvolution(6), torch.randn(2, 6, 3, 4)
    z, log_det = convolution(image)
    torch.testing.assert_close(z.norm(dim=1), image.norm(dim=1))
    torch.testing.assert_close(log_det, torch.zeros(2), atol=1e-4, rtol=0)
    perturb(convolution)
    by_position = torch.einsum("ij,bjhw->bihw", convolution.weight, image)
    torch.testing.assert_close(convolution(image)[0], by_position)
    expected = 12 * convolution.weight.det().abs().log()
    torch.testing.assert_close(convolution(image)[1], expected.expand(2))


def test_a_coherent_step_of_the_optimizer_moves_a_wide_map_little():
    """The worst that Adam can do at a rate of 1e-3: every entry of both factors the same way."""
    linear, unit_vectors = InvertibleLinear(512), torch.eye(512)
    with torch.no_grad():
        before = linear(unit_vectors)[0]
        linear.lower += 1e-3
        linear.upper += 1e-3
        assert torch.linalg.matrix_norm(linear(unit_vectors)[0] - before, 2) < 0.1


def test_coupling_starts_as_the_identity_and_bounds_its_scale():
    coupling = ConditionalCoupling(4, 2, 8)
    x, context = torch.randn(3, 4), torch.randn(3, 2)
    assert torch.equal(coupling(x, context)[0], x)
    perturb(coupling, scale=30.0)
    log_det = coupling(x, context)[1]
    assert log_det.abs().max() <= 2 * 2 + 1e-4 and log_det.abs().max() > 0.1


@pytest.mark.parametrize("training", [False, True])
def test_the_published_coupling_from_its_description(training):
    """Three layers are each the sum of a convolution of the input and one of the context."""
    coupling = perturb(ConvolutionalCoupling(4, 3, 8), scale=0.3).double().train(training)
    x, context = torch.randn(5, 4, 4, 2).double(), torch.randn(5, 3, 4, 2).double()
    net = coupling.net

    def normalised(h, norm):
        mean, variance = norm.running_mean, norm.running_var
        if training:
            mean, variance = h.mean((0, 2, 3)), h.var((0, 2, 3), correction=0)
        mean, variance, scale, shift = (v.view(-1, 1, 1) for v in (mean, variance, norm.weight, norm.bias))
        return scale * (h - mean) / (variance + 1e-5).sqrt() + shift

    def both(h, layer):
        padding = layer.weight.shape[-1] // 2
        of_input, of_context = layer.weight.split([h.shape[1], 3], 1)
        return conv2d(h, of_input, padding=padding) + conv2d(context, of_context, padding=padding)

    moved, seen = x.chunk(2, 1)
    h = both(normalised(seen, net.norm_1), net.conv_1).relu()
    h = normalised(both(h, net.conv_2), net.norm_2).relu()
    h = normalised(both(h, net.conv_3), net.norm_3).relu()
    s, t = conv2d(h, net.last.weight, net.last.bias, padding=1).chunk(2, 1)
    s = coupling.scale * s.tanh()
    z, log_det = coupling(x, context)
    torch.testing.assert_close(z, torch.cat([(moved + t) * s.exp(), seen], 1))
    torch.testing.assert_close(log_det, s.sum((1, 2, 3)))


def test_the_published_coupling_starts_as_the_identity():
    x = torch.randn(3, 4, 4, 2)
    assert torch.equal(ConvolutionalCoupling(4, 3, 8)(x, torch.randn(3, 3, 4, 2))[0], x)


def test_realnvp_moves_every_coordinate_in_turns():
    swaps = [
        layer.swap for layer in RealNVP(4, 4).modules() if isinstance(layer, ConditionalCoupling)
    ]
    assert swaps == [False, True] * 3


# --- Glow


def test_glow_has_the_published_size():
    flow = Glow(512, 512)
    couplings = [m for m in flow.modules() if isinstance(m, ConvolutionalCoupling)]
    assert len(flow.levels) == 2 and len(couplings) == 16
    assert sum(p.numel() for p in flow.parameters()) == 3_185_712


def test_glow_inverts_within_a_batch_in_training_too():
    flow = perturb(Glow(64, 64, levels=2, steps=2, channels=8)).double().train()
    x, context = torch.randn(5, 64).double(), torch.randn(5, 64).double()
    with torch.no_grad():
        z, log_det = flow(x, context)
        back, log_det_back = flow.inverse(z, context)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(log_det, -log_det_back)


def test_glow_puts_half_of_the_first_level_aside():
    """A latent of the second level's making leaves the first half of the vector as the first level
    left it."""
    flow = perturb(Glow(64, 64, levels=2, steps=1, channels=4))
    x, context = torch.randn(2, 64), torch.randn(2, 64)
    before = flow(x, context)[0]
    perturb(flow.levels[1], seed=2)
    after = flow(x, context)[0]
    assert torch.equal(before[:, :32], after[:, :32]) and not torch.allclose(
        before[:, 32:], after[:, 32:]
    )


@pytest.mark.parametrize("dim,levels", [(528, 2), (60, 2), (96, 2), (16, 1), (0, 2)])
def test_glow_refuses_an_embedding_that_it_cannot_halve(dim, levels):
    with pytest.raises(UsageError, match=rf"--embed_dim {dim} .*multiple of {16 * 2**levels}\."):
        Glow(dim, dim, levels=levels)


def test_glow_refuses_more_levels_than_rows():
    with pytest.raises(UsageError, match="--memory_levels 5"):
        Glow(512, 512, levels=5)


# --- densities


def test_log_prob_of_a_linear_flow_is_the_normal_density_in_closed_form():
    flow = perturb(FlowStack(ActNorm(3), InvertibleLinear(3)), scale=0.5).double()
    x = torch.randn(6, 3, dtype=torch.float64)
    origin = flow(torch.zeros(1, 3, dtype=torch.float64))[0][0]
    # z = A x + b
    matrix = flow(torch.eye(3, dtype=torch.float64))[0].T - origin[:, None]
    inverse = torch.linalg.inv(matrix)
    normal = torch.distributions.MultivariateNormal(-inverse @ origin, inverse @ inverse.T)
    torch.testing.assert_close(flow.log_prob(x), normal.log_prob(x))
    torch.testing.assert_close(flow.inverse(torch.zeros(1, 3, dtype=torch.float64))[0][0], normal.mean)


@torch.no_grad()
def test_density_of_a_realnvp_integrates_to_one():
    flow = perturb(RealNVP(2, 2, couplings=3, hidden=8), scale=0.3).double()
    context = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    samples, _ = flow.inverse(torch.randn(4000, 2, dtype=torch.float64), context.expand(4000, 2))
    low, high = samples.amin(0) - 2, samples.amax(0) + 2
    axes = [torch.linspace(float(a), float(b), 600, dtype=torch.float64) for a, b in zip(low, high)]
    grid = torch.cartesian_prod(*axes)  # (600 * 600, 2)
    cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    density = flow.log_prob(grid, context.expand(len(grid), 2)).exp()
    assert abs(float(density.sum() * cell) - 1) < 0.01
    mean = (density[:, None] * grid).sum(0) * cell
    torch.testing.assert_close(mean, samples.mean(0), atol=0.15, rtol=0)

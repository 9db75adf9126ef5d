"""What every flow must satisfy, in one place; imports nothing from the project.

`check_flow` takes a flow with weights far from the identity. It raises AssertionError where the
flow breaks its contract, and test_harness.py feeds it broken flows to see that it does.
"""
import torch

INVERSE_ERROR = {torch.float32: 1e-4, torch.float64: 1e-9}


def perturb(flow, scale=0.1, seed=1):
    """Move every parameter, also the layers that start at zero, so that the flow is no identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator).to(parameter)
    return flow.eval()


def check_flow(flow, shape, context_shape, dtype=torch.float64):
    """All checks, on inputs (B, *shape) and contexts (B, *context_shape), None for a flow without
    context."""
    flow = flow.to(dtype)
    for rows in (1, 5):
        x, context = draw(rows, shape, dtype), draw(rows, context_shape, dtype)
        check_inverse(flow, x, context)
    if dtype == torch.float64:
        check_jacobian(flow, x[:2], None if context is None else context[:2])
    check_rows_stand_alone(flow, x, context)
    if context is not None:
        check_context_counts(flow, x, context)


def draw(rows, shape, dtype):
    return None if shape is None else torch.randn(rows, *shape, dtype=dtype)


@torch.no_grad()
def check_inverse(flow, x, context):
    """Both orders of the round trip, shapes, dtypes and the sign of the inverse's
    log-determinant."""
    tolerance = INVERSE_ERROR[x.dtype]
    z, log_det = flow(x, context)
    assert not (z.shape == x.shape and torch.allclose(z, x, atol=1e-3)), (
        "the flow is the identity: nothing is tested"
    )
    back, log_det_back = flow.inverse(z, context)
    for value in (log_det, log_det_back):
        assert value.shape == (len(x),) and value.dtype == x.dtype, (
            f"log_det is {value.dtype} {tuple(value.shape)}"
        )
    assert back.shape == x.shape and z.numel() == x.numel() and z.dtype == back.dtype == x.dtype
    assert (back - x).abs().max() < tolerance, f"inverse misses by {(back - x).abs().max()}"
    again, log_det_again = flow(flow.inverse(x.reshape(z.shape), context)[0], context)
    assert (again - x.reshape(z.shape)).abs().max() < tolerance
    assert torch.allclose(log_det, -log_det_back, atol=100 * tolerance)


def check_jacobian(flow, x, context):
    """log_det against the log absolute determinant of the Jacobian by autograd, row by row, in both
    directions."""
    for function, point in ((flow, x), (flow.inverse, flow(x, context)[0].detach())):
        log_det = function(point, context)[1]
        for i in range(len(x)):
            expected = slogdet_of_jacobian(
                function, point[i : i + 1], None if context is None else context[i : i + 1]
            )
            assert torch.allclose(log_det[i], expected, atol=1e-7), (
                f"log_det {log_det[i]}, Jacobian {expected}"
            )


def slogdet_of_jacobian(function, x, context):
    jacobian = torch.autograd.functional.jacobian(lambda v: function(v, context)[0].flatten(), x)
    return torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel()))[1]


@torch.no_grad()
def check_rows_stand_alone(flow, x, context):
    """Row 0 is the same whatever the others and their contexts are, forward and inverse."""
    others = None if context is None else torch.cat([context[:1], 1 + context[1:]])
    for function in (flow, flow.inverse):
        point = x if function is flow else flow(x, context)[0]
        first = function(point, context)
        second = function(torch.cat([point[:1], 1 + point[1:]]), others)
        for a, b in zip(first, second):
            assert torch.allclose(a[0], b[0], atol=INVERSE_ERROR[x.dtype]), (
                "a row depends on other rows"
            )
            if a.shape != (len(x),):
                assert not torch.allclose(a[1], b[1], atol=1e-3)


@torch.no_grad()
def check_context_counts(flow, x, context):
    """Another context for row 0 moves row 0, forward and inverse, and no other row."""
    moved = torch.cat([1 + context[:1], context[1:]])
    for function in (flow, flow.inverse):
        point = x if function is flow else flow(x, context)[0]
        first, second = function(point, context)[0], function(point, moved)[0]
        assert not torch.allclose(first[0], second[0], atol=1e-3), "the context is ignored"
        assert torch.allclose(first[1:], second[1:], atol=INVERSE_ERROR[x.dtype]), (
            "a context reaches other rows"
        )

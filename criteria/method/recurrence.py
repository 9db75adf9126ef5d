"""A gated recurrent unit for the CPU: the gradient of its weights in one product.

torch's own adds an outer product as large as the weights at every image of the batch, which is
most of the method's time on a CPU. GPUs have a kernel of their own.
"""
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Both directions together, at most as wide, are one recurrence: half the calls at every image, for
# a product twice as large, half of it zeros.
NARROW = 256
GATES = 3


def gru(cell: nn.GRU, x: Tensor) -> Tensor:
    """What `cell`, of one layer, gives for a sequence: (T, F) -> (T, directions * hidden)."""
    given = []
    weights = []
    biases = []
    for direction in range(1 + cell.bidirectional):
        end = "l0_reverse" if direction else "l0"
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(cell, f"{name}_{end}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        gates = nn.functional.linear(x, weight_ih, bias_ih)  # (T, 3H)
        given.append(gates.flip(0) if direction else gates)
        weights.append(weight_hh)
        biases.append(bias_hh)
    if len(given) * cell.hidden_size <= NARROW:
        by_gate = zip(*(weight.chunk(GATES) for weight in weights))
        weight = torch.cat([torch.block_diag(*gate) for gate in by_gate])
        states = Recurrence.apply(side_by_side(given), weight, side_by_side(biases))
        states = states.chunk(len(given), 1)
    else:
        states = map(Recurrence.apply, given, weights, biases)
    outputs = [one.flip(0) if direction else one for direction, one in enumerate(states)]
    return torch.cat(outputs, 1)


def side_by_side(gates: list[Tensor]) -> Tensor:
    """The gates (..., 3H) of several units as those of one whose state is all of theirs."""
    by_gate = zip(*(one.chunk(GATES, -1) for one in gates))
    return torch.cat([one for gate in by_gate for one in gate], -1)


class Recurrence(torch.autograd.Function):
    """From the first image to the last (Cho et al. 2014, as torch computes it).

        r_t = sigmoid(i_r + W_r h + b_r),   z_t = sigmoid(i_z + W_z h + b_z)
        n_t = tanh(i_n + r_t (W_n h + b_n)),   h_t = (1 - z_t) n_t + z_t h,   h = h_{t-1}

    i (T, 3H): what the inputs add to the gates r, z, n; W (3H, H), b (3H,). -> (T, H). First
    derivatives only.
    """

    @staticmethod
    def forward(ctx, given: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        length, width = len(given), weight.shape[1]
        states = given.new_zeros(length + 1, width)  # the first before the sequence
        # all that does not wait for a state; the loop adds the rest in place
        own = bias.repeat(length, 1)
        own[:, :2 * width] += given[:, :2 * width]
        candidate = given[:, 2 * width:].clone()
        r, z, recalled = own.chunk(GATES, 1)
        # all views at once: one by one they take as long as the arithmetic
        views = zip(*map(torch.unbind, [
            own, own[:, :2 * width], r, z, recalled, candidate, states[:-1], states[1:],
        ]))
        for gates, reset_update, r, z, recalled, n, h, new in views:
            gates.addmv_(weight, h)
            reset_update.sigmoid_()
            n.addcmul_(r, recalled).tanh_()
            torch.lerp(n, h, z, out=new)
        ctx.save_for_backward(weight, states, own, candidate)
        return states[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        weight, states, own, candidate = ctx.saved_tensors
        previous = states[:-1]
        r, z, recalled = own.chunk(GATES, 1)  # (T, H) each
        # what each gate's input is worth for a unit of the state's gradient
        to_candidate = (1 - z) * (1 - candidate**2)
        to_update = (previous - candidate) * z * (1 - z)
        to_reset = to_candidate * recalled * r * (1 - r)
        own_gradient = torch.stack([to_reset, to_update, to_candidate * r], 1)  # (T, 3, H)
        # that of every state, of which the loop adds what comes through the next one
        of_state = torch.cat([torch.zeros_like(gradient[:1]), gradient])  # (T + 1, H)
        flat = own_gradient.flatten(1)  # (T, 3H)
        transposed = weight.T
        views = zip(*(tensor.unbind()[::-1] for tensor in [
            of_state[:-1], of_state[1:], own_gradient, flat, z,
        ]))
        for earlier, whole, gates, row, keep in views:
            gates.mul_(whole)
            earlier.addcmul_(whole, keep).addmv_(transposed, row)
        to_input = (to_candidate * of_state[1:])[:, None]  # (T, 1, H)
        given_gradient = torch.cat([own_gradient[:, :2], to_input], 1)
        return given_gradient.flatten(1), flat.T @ previous, flat.sum(0)

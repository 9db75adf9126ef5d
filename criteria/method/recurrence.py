"""A gated recurrent unit for the CPU: the gradient of its weights in one product.

torch's own adds an outer product as large as the weights at every image of the batch, which is
most of the method's time on a CPU. GPUs have a kernel of their own.
"""
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def gru(cell: nn.GRU, x: Tensor) -> Tensor:
    """What `cell`, of one layer, gives for a sequence: (T, F) -> (T, directions * hidden)."""
    outputs = []
    for direction in range(1 + cell.bidirectional):
        end = "l0_reverse" if direction else "l0"
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(cell, f"{name}_{end}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        gates = nn.functional.linear(x, weight_ih, bias_ih)  # (T, 3H)
        if direction:
            gates = gates.flip(0)
        states = OneDirection.apply(gates, weight_hh, bias_hh)  # (T, H)
        outputs.append(states.flip(0) if direction else states)
    return torch.cat(outputs, 1)


class OneDirection(torch.autograd.Function):
    """The recurrence from the first place to the last (Cho et al. 2014, as torch computes it).

        r_t = sigmoid(i_r + W_r h + b_r),   z_t = sigmoid(i_z + W_z h + b_z)
        n_t = tanh(i_n + r_t (W_n h + b_n)),   h_t = (1 - z_t) n_t + z_t h,   h = h_{t-1}

    i (T, 3H): what the inputs add to the gates r, z, n. W (3H, H), b (3H,). -> (T, H)
    First derivatives only.
    """

    @staticmethod
    def forward(ctx, gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        length, width = len(gates), weight.shape[1]
        states = gates.new_zeros(length + 1, width)  # (1 + T, H), the first before the sequence
        reset_update = gates.new_empty(length, 2, width)
        candidate = gates.new_empty(length, width)
        recalled = gates.new_empty(length, 3 * width)
        given = gates.view(length, 3, width)
        own = recalled.view(length, 3, width)
        # all views at once: one by one they take as long as the arithmetic
        views = [
            recalled, own[:, :2], own[:, 2], given[:, :2], given[:, 2],
            reset_update, reset_update[:, 0], reset_update[:, 1], candidate,
            states[:-1], states[1:],
        ]
        for rec, rec_ru, rec_n, in_ru, in_n, ru, r, z, n, h, new in zip(*map(torch.unbind, views)):
            torch.addmv(bias, weight, h, out=rec)
            torch.add(in_ru, rec_ru, out=ru).sigmoid_()
            torch.addcmul(in_n, r, rec_n, out=n).tanh_()
            torch.lerp(n, h, z, out=new)
        ctx.save_for_backward(weight, states, reset_update, candidate, own[:, 2].clone())
        return states[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, states, reset_update, candidate, recalled = ctx.saved_tensors
        length, width = gradient.shape
        previous = states[:-1]
        r, z = reset_update.unbind(1)  # (T, H)
        # what each gate's input is worth for a unit of the state's gradient
        to_candidate = (1 - z) * (1 - candidate**2)
        to_update = (previous - candidate) * z * (1 - z)
        to_reset = to_candidate * recalled * r * (1 - r)
        slope = torch.stack([to_reset, to_update, to_candidate * r], 1)  # (T, 3, H)
        own = gradient.new_empty(length, 3, width)
        states_gradient = gradient.new_empty(length, width)
        carried = gradient.new_zeros(width)
        transposed = weight.T
        views = [gradient, states_gradient, slope, own, own.view(length, -1), z]
        for received, total, factor, gates, row, keep in zip(*map(reversed_views, views)):
            torch.add(received, carried, out=total)
            torch.mul(factor, total, out=gates)
            carried = torch.mul(total, keep).addmv_(transposed, row)
        given = own.clone()
        torch.mul(to_candidate, states_gradient, out=given[:, 2])
        own = own.view(length, -1)  # (T, 3H)
        return given.view(length, -1), own.T @ previous, own.sum(0)


def reversed_views(rows: Tensor) -> tuple[Tensor, ...]:
    """The rows from the last to the first."""
    return rows.unbind()[::-1]

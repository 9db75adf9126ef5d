"""A gated recurrent unit for the CPU: the gradient of its weights in one product.

torch's own adds an outer product as large as the weights at every image of the batch, which is
most of the method's time on a CPU. GPUs have a kernel of their own.
"""
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Entries of a direction's recurrent weights. Smaller ones of both directions stay in a core's cache
# together, and one loop over the batch is enough; larger ones would push each other out.
SMALL = 3 * 384**2


def gru(cell: nn.GRU, x: Tensor) -> Tensor:
    """What `cell`, of one layer, gives for a sequence: (T, F) -> (T, directions * hidden)."""
    gates = []
    weights = []
    biases = []
    for direction in range(1 + cell.bidirectional):
        end = "l0_reverse" if direction else "l0"
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(cell, f"{name}_{end}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        given = nn.functional.linear(x, weight_ih, bias_ih)  # (T, 3H)
        gates.append(given.flip(0) if direction else given)
        weights.append(weight_hh)
        biases.append(bias_hh)
    if weights[0].numel() < SMALL:
        states = Recurrence.apply(torch.stack(gates, 1), *weights, *biases).unbind(1)
    else:
        states = [Recurrence.apply(given[:, None], weight, bias)[:, 0]
                  for given, weight, bias in zip(gates, weights, biases)]
    outputs = [one.flip(0) if direction else one for direction, one in enumerate(states)]
    return torch.cat(outputs, 1)


class Recurrence(torch.autograd.Function):
    """N recurrences side by side, from the first place to the last (Cho et al. 2014, as torch
    computes it).

        r_t = sigmoid(i_r + W_r h + b_r),   z_t = sigmoid(i_z + W_z h + b_z)
        n_t = tanh(i_n + r_t (W_n h + b_n)),   h_t = (1 - z_t) n_t + z_t h,   h = h_{t-1}

    i (T, N, 3H): what the inputs add to the gates r, z, n. N weights W (3H, H), then N biases
    b (3H,). -> (T, N, H). First derivatives only.
    """

    @staticmethod
    def forward(ctx, gates: Tensor, *parameters: Tensor) -> Tensor:
        length, number, _ = gates.shape
        weights, biases = parameters[:number], parameters[number:]
        width = weights[0].shape[1]
        states = gates.new_zeros(length + 1, number, width)  # the first before the sequence
        reset_update = gates.new_empty(length, number, 2, width)
        candidate = gates.new_empty(length, number, width)
        recalled = gates.new_empty(length, number, 3 * width)
        given = gates.view(length, number, 3, width)
        own = recalled.view(length, number, 3, width)
        # all views at once: one by one they take as long as the arithmetic
        views = zip(*map(torch.unbind, [
            own[:, :, :2], own[:, :, 2], given[:, :, :2], given[:, :, 2],
            reset_update, reset_update[:, :, 0], reset_update[:, :, 1], candidate,
            states[:-1], states[1:],
        ]))
        befores = of_each_place(states[:-1])
        products = of_each_place(recalled)
        for before, product, (rec_ru, rec_n, in_ru, in_n, ru, r, z, n, h, new) in zip(
            befores, products, views
        ):
            for bias, weight, one, out in zip(biases, weights, before, product):
                torch.addmv(bias, weight, one, out=out)
            torch.add(in_ru, rec_ru, out=ru).sigmoid_()
            torch.addcmul(in_n, r, rec_n, out=n).tanh_()
            torch.lerp(n, h, z, out=new)
        ctx.save_for_backward(*weights, states, reset_update, candidate, own[:, :, 2].clone())
        return states[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        *weights, states, reset_update, candidate, recalled = ctx.saved_tensors
        length, number, width = gradient.shape
        previous = states[:-1]
        r, z = reset_update.unbind(2)  # (T, N, H)
        # what each gate's input is worth for a unit of the state's gradient
        to_candidate = (1 - z) * (1 - candidate**2)
        to_update = (previous - candidate) * z * (1 - z)
        to_reset = to_candidate * recalled * r * (1 - r)
        slope = torch.stack([to_reset, to_update, to_candidate * r], 2)  # (T, N, 3, H)
        own = gradient.new_empty(length, number, 3, width)
        states_gradient = gradient.new_empty(length, number, width)
        carried = gradient.new_zeros(number, width)
        parts = carried.unbind()
        transposed = [weight.T for weight in weights]
        flat = own.flatten(2)  # (T, N, 3H)
        views = zip(*(tensor.unbind()[::-1] for tensor in [
            gradient, states_gradient, states_gradient.unsqueeze(2), slope, own, z,
        ]))
        rows = of_each_place(flat)[::-1]
        for row, (received, total, totals, factor, gates, keep) in zip(rows, views):
            torch.add(received, carried, out=total)
            torch.mul(factor, totals, out=gates)
            torch.mul(total, keep, out=carried)
            for part, matrix, one in zip(parts, transposed, row):
                part.addmv_(matrix, one)
        given = own.clone()
        torch.mul(to_candidate, states_gradient, out=given[:, :, 2])
        own_gradients = [one.T @ before for one, before in zip(flat.unbind(1), previous.unbind(1))]
        return given.flatten(2), *own_gradients, *flat.sum(0)


def of_each_place(rows: Tensor) -> list[tuple[Tensor, ...]]:
    """(T, N, ...) -> for every place the N rows."""
    number = rows.shape[1]
    views = rows.flatten(0, 1).unbind()
    return [views[start:start + number] for start in range(0, len(views), number)]

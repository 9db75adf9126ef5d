"""Half precision of the backbone costs the loss what rounding an embedding costs, and overflows nowhere."""
import pytest
import torch

from batchminer.base import Quadruplets, Triplets
from criteria import CRITERIA, select
from tests.training.methods import CLASSES, DIM, LABEL, batch, build
from training.large_batch import LargeBatchStep
from utilities.device import full_precision, set_arithmetic

STEP = 2.0 ** -8                                               # of bfloat16: the largest relative error of a rounding


def outcome(loss, amp):
    """The terms and the gradient of a batch, by the full method in float32 with its backbone in a precision."""
    network, method, miner = build(loss)
    network.float(), method.float()
    data = batch(1)
    found = LargeBatchStep(network, method, miner, amp=amp)(data._replace(image=data.image.float()))
    return found.terms, network.projection.weight.grad


@pytest.mark.parametrize("loss", CRITERIA)
def test_bf16_agrees_with_float32_as_far_as_it_rounds(loss):
    """A similarity moves by a few roundings, and a term by its slope times that: the slope is that of a smooth change
    of the embeddings, so a first-order bound with room for four layers."""
    (exact, slope), (half, other) = outcome(loss, "none"), outcome(loss, "bf16")
    assert exact.keys() == half.keys() and all(term.dtype == torch.float32 for term in half.values())
    for name in exact:
        scale = max(1.0, exact[name].abs().item())
        assert abs(exact[name].item() - half[name].item()) < 16 * STEP * scale, name
    assert torch.nn.functional.cosine_similarity(slope.flatten(), other.flatten(), dim=0) > 0.9


def rows_at(distance):
    """Sixteen unit rows of four classes, all in one point (distance 0), or every second one opposite (distance 2)."""
    row = torch.nn.functional.normalize(torch.arange(1.0, DIM + 1), dim=0).repeat(len(LABEL), 1)
    row[1::2] *= 1 if distance == 0 else -1
    return row                                                                     # (16, D)


def every_tuple(loss):
    """Triplets, or quadruplets, of positives and negatives at both distances."""
    anchor = torch.arange(16)
    found = [anchor, anchor // 4 * 4 + (anchor + 1) % 4, (anchor + 5) % 16, (anchor + 10) % 16]
    return Quadruplets(*found) if CRITERIA[loss].needs_quadruplets else Triplets(*found[:3])


@pytest.mark.parametrize("distance", [0, 2])
@pytest.mark.parametrize("loss", CRITERIA)
def test_no_criterion_overflows_in_float16(loss, distance):
    """Embeddings of float16 inside autocast to float16, as a backbone may give them: loss and gradients are finite."""
    torch.manual_seed(0)
    criterion = select(loss, n_classes=CLASSES, embed_dim=DIM)
    x = rows_at(distance).half().requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16):
        value = criterion(x, LABEL, every_tuple(loss) if criterion.needs_triplets else None)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in criterion.parameters())


@pytest.mark.parametrize("loss", CRITERIA)
def test_the_scaled_loss_of_fp16_overflows_in_no_gradient_of_the_embedding(loss):
    """At the scale that torch begins with: what overflowed would have its step passed over."""
    for distance in (0, 2):
        criterion = select(loss, n_classes=CLASSES, embed_dim=DIM)
        x = rows_at(distance).requires_grad_()
        value = criterion(x, LABEL, every_tuple(loss) if criterion.needs_triplets else None)
        (2.0 ** 16 * value).backward()
        assert x.grad.isfinite().all()


def test_tf32_is_for_the_backbone_alone(monkeypatch):
    network, method, miner = build("gpw")
    matmul, seen = torch.backends.cuda.matmul, {}
    network.backbone.register_forward_hook(lambda *_: seen.update(forward=matmul.fp32_precision))
    network.backbone.register_full_backward_hook(lambda *_: seen.update(backward=matmul.fp32_precision))
    method.base.register_forward_hook(lambda *_: seen.update(loss=matmul.fp32_precision))
    network.memory.register_forward_hook(lambda *_: seen.update(memory=matmul.fp32_precision))
    method.relation.register_full_backward_hook(lambda *_: seen.update(slope=matmul.fp32_precision))
    before = matmul.fp32_precision
    try:
        set_arithmetic(tf32=True)
        LargeBatchStep(network, method, miner)(batch())
    finally:
        matmul.fp32_precision = before
    assert seen == {"forward": "tf32", "backward": "tf32", "loss": "ieee", "slope": "ieee"}


def test_tf32_is_allowed_again_where_the_backward_pass_reaches_the_backbone():
    """As the training loop has it: one graph, the head in full precision in both directions."""
    network, method, miner = build("gpw")
    matmul, seen = torch.backends.cuda.matmul, {}
    network.backbone.register_full_backward_hook(lambda *_: seen.update(backward=matmul.fp32_precision))
    method.relation.register_full_backward_hook(lambda *_: seen.update(slope=matmul.fp32_precision))
    before = matmul.fp32_precision
    data = batch()
    try:
        set_arithmetic(tf32=True)
        features = network(data.image)
        with full_precision(data.image.device, until=features.embedding):
            related = method.relate(network, features)
            seen["loss"] = matmul.fp32_precision
            method(network, features, related, data.label, data.index, None)["total"].backward()
        seen["after"] = matmul.fp32_precision
    finally:
        matmul.fp32_precision = before
    assert seen == {"loss": "ieee", "slope": "ieee", "backward": "tf32", "after": "tf32"}

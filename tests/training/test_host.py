"""The host hands out the work of a step and waits for none of it, but for what is known to fix a shape."""
import collections
import warnings

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from batchminer import MINERS
from batchminer import select as select_miner
from criteria import CRITERIA
from datasets.samplers import select as select_sampler
from tests.training.methods import LABEL, POLICIES, batch, build
from training.ema import AveragedWeights
from training.guard import GRADIENT, FiniteGuard
from training.large_batch import LargeBatchStep
from training.optimisation import Optimisation, Schedule, build_optimizer, parameter_groups
from training.records import StepRecorder
from utilities import pairwise
from utilities.errors import UsageError

# What a GPU would have to be waited for: numbers and shapes that depend on values, and numbers of the host sent to it.
READS = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique_dim", "_unique2",
         "unique_consecutive", "bincount", "lift_fresh"}
MINED = {"nonzero", "index by mask", "_local_scalar_dense"}    # anchors without a partner are left out
RANKED = {"_local_scalar_dense"}                               # the longest row of positives
MEMORY = {"index by mask"}                                     # images of the memory that are in the batch
BY_RANKS = {"smoothap", "supap", "recallatk"}


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """These tensors of the CPU stand for those of a GPU."""
    monkeypatch.setattr(pairwise, "COUNTING", ())


class Reads(TorchDispatchMode):
    """Counts the operations inside that make the host wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.count = collections.Counter()

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        name = operation.overloadpacket.__name__
        places = arguments[1] if name.startswith(("index", "_index_put")) and len(arguments) > 1 else ()
        if isinstance(places, list | tuple) and any(i is not None and i.dtype == torch.bool for i in places):
            self.count["index by mask"] += 1
        elif name in READS or (name == "multinomial" and arguments[1] == 1):       # which checks a single draw
            self.count[name] += 1
        return operation(*arguments, **(more or {}))


def step_of(loss, **settings):
    """Everything that the training loop does in a step without a row of records."""
    network, method, miner = build(loss, **settings)
    groups = parameter_groups(network, method, lr=0.01)
    take = Optimisation(build_optimizer(groups), Schedule("cosine", 5, 2), grad_clip=1.0,
                        average=AveragedWeights(network, 0.9))
    compute, guard = LargeBatchStep(network, method, miner), FiniteGuard(str)
    recorder = StepRecorder(batch().image.device)
    sampler = select_sampler("d2_coreset", labels=[*range(100)] * 8, bs=16, samples_per_class=4, seed=0, mb_mom=0.5)
    sampler.fill(torch.randn(800, network.embed_dim))

    def step(number):
        outcome = compute(batch(number))
        norm = take.step(number)
        guard.watch(number, outcome.terms | {GRADIENT: norm}, outcome.index)
        recorder.add(outcome.terms, images=len(outcome.label), gradient_norm=norm)
        sampler.update(outcome.related.z.detach(), outcome.index)
    step.method, step.guard = method, guard
    return step


def reads_of(step):
    """What the host reads in the third step; the first ones start things up."""
    step(1), step(2)
    data = batch(3)
    with pytest.MonkeyPatch.context() as patch, Reads() as reads:
        patch.setattr("tests.training.test_host.batch", lambda number: data)
        step(3)
    return set(reads.count)


@pytest.mark.parametrize("loss", CRITERIA)
def test_a_step_of_every_criterion_reads_only_what_fixes_a_shape(loss):
    allowed = (MINED if CRITERIA[loss].needs_triplets else set()) | (RANKED if loss in BY_RANKS else set())
    allowed |= MEMORY if CRITERIA[loss].takes_references else set()
    assert reads_of(step_of(loss)) <= allowed


@pytest.mark.parametrize("proxies", [True, False])
@pytest.mark.parametrize("memory", ["realnvp", "glow", "none"])
def test_a_step_of_the_full_method_reads_nothing(memory, proxies):
    step = step_of("gpw", memory=memory, proxies=proxies)
    step.method.xbm = None
    assert reads_of(step) == set()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("method", [{}, {"training": {"act": "greedy"}}, {"training": {"act": "expected"}},
                                    {"pair_weighting": "random"}, {"pair_weighting": "shuffled"},
                                    {"reward": "batch_ap"},
                                    {"pair_weighting": "constant", "constant": (5.0, 20.0)}], ids=str)
def test_a_step_of_every_policy_reads_nothing(policy, method):
    try:
        step = step_of("gpw", policy=POLICIES[policy], **method)
    except UsageError:                                                             # what cannot apply
        return
    step.method.xbm = None
    assert reads_of(step) == set()


def test_a_step_as_published_reads_only_for_its_miner():
    step = step_of("margin", memory="glow", reward="batch_ap", training={"samples": 1, "baseline": "none"})
    step.method.xbm = None
    assert reads_of(step) == {"nonzero"}


def test_what_reads_is_found():
    step = step_of("gpw")
    assert reads_of(lambda number: (step(number), step.guard.check())) >= {"_local_scalar_dense"}
    with Reads() as reads:
        x = torch.rand(4)
        bool(x[0] > 0), x[x > 0.5], x.nonzero(), torch.multinomial(x, 1), torch.tensor([1.0])
    assert set(reads.count) == {"_local_scalar_dense", "index by mask", "nonzero", "multinomial", "lift_fresh"}


@pytest.mark.parametrize("name", MINERS)
def test_a_miner_reads_only_what_fixes_the_number_of_triplets(name):
    miner, z = select_miner(name, seed=0), torch.nn.functional.normalize(torch.randn(16, 8), dim=-1)
    miner(z, LABEL)
    with Reads() as reads:
        miner(z, LABEL)
    assert set(reads.count) <= MINED


def step_on_a_gpu(amp="none", **settings):
    """As `step_of`, in float32 on a GPU, without a cross-batch memory."""
    network, method, _ = build("gpw", **settings)
    network.float().cuda(), method.float().cuda()
    method.xbm = None
    data = batch()
    data = data._replace(image=data.image.float().cuda(), label=data.label.cuda(), index=data.index.cuda())
    scaler = torch.amp.GradScaler("cuda", enabled=amp == "fp16")
    take = Optimisation(build_optimizer(parameter_groups(network, method, lr=0.01)), Schedule("none", 1, 1),
                        scaler=scaler, grad_clip=1.0, average=AveragedWeights(network, 0.9))
    compute, guard = LargeBatchStep(network, method, None, amp=amp, scaler=scaler), FiniteGuard(str)

    def step(number):
        outcome = compute(data)
        guard.watch(number, outcome.terms | {GRADIENT: take.step(number)}, outcome.index)
    step(1), step(2)
    return step


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{"amp": "bf16"}, {"amp": "fp16"}, {},
                                      *({"policy": policy} for policy in POLICIES.values())], ids=str)
def test_a_step_on_a_gpu_never_waits(settings):
    step = step_on_a_gpu(**settings)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            step(3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [str(w.message) for w in found if "synchroniz" in str(w.message)] == []


def waits(call):
    """How often the host waits for the GPU in a call, as the profiler sees it."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        call()
    return collections.Counter(event.name for event in found.events() if "Synchronize" in event.name)


@pytest.mark.gpu
def test_the_profiler_sees_no_wait_of_a_step_and_sees_one_that_is_there():
    step, number = step_on_a_gpu(), torch.ones((), device="cuda")
    waits(lambda: None)                                                            # it starts things up
    assert waits(lambda: step(3)) == waits(lambda: None)                           # but for its own
    assert waits(lambda: number.item()) != waits(lambda: None)

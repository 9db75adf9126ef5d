"""A CUDA device that is not there: tensors that say they are on "cuda", with their numbers in the CPU's memory.

    with fake_cuda() as gpu:
        network.to("cuda")
        with gpu.strict({"nonzero"}):
            ...                        # what a step may wait for, by name; all else is an error

Three mistakes that a CPU forgives are errors here: tensors of both devices in one operation
(MixedDevices), a generator of the other device (WrongGenerator), and, inside `strict`, an operation
for which the host would wait (HostWaits). torch's own FakeTensorMode has no numbers, so that it ends
at the first known wait, and without a driver it cannot run a backward pass.

To the C++ side of torch these tensors are on the device "meta", which no operation reaches: each is
computed by the CPU's kernel. So what only CUDA's kernels do is not seen.
"""
import collections
import contextlib
import functools
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

HOST = torch.device("cpu")
META = torch.device("meta")
CUDA = torch.device("cuda", 0)
CPU_AUTOCAST = torch.autocast
CPU_GENERATOR = torch.Generator

# Operations whose result, or its shape, the host must read from the device.
READING = {
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
# What torch.autocast computes in half precision, of what a network here has.
PRODUCTS = {
    torch.bmm,
    torch.conv2d,
    torch.matmul,
    torch.mm,
    torch.nn.functional.linear,
    torch.Tensor.__matmul__,
    torch.Tensor.matmul,
}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"_to_copy", "copy_", "_foreach_copy_"}


class MixedDevices(Exception):
    """Tensors of both devices meet in one operation."""


class WrongGenerator(Exception):
    """Numbers on one device are drawn by a generator of the other."""


class HostWaits(Exception):
    """The host would wait for the device."""


class FakeGenerator(CPU_GENERATOR):
    """A generator that says on which device it is; each draws as the CPU's."""

    def __new__(cls, device="cpu"):
        self = super().__new__(cls)
        self.place = there(device)
        return self

    @property
    def device(self):
        return self.place


class FakeCuda(torch.Tensor):
    """A tensor on "cuda"; `value` holds its numbers, on the CPU."""

    @staticmethod
    def __new__(cls, value):
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            value.shape,
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=META,
        )
        self.value = value
        return self

    def tolist(self):
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol):
        return self.value.__reduce_ex__(protocol)

    def __repr__(self):
        return f"FakeCuda({self.value})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), more=None):
        raise RuntimeError(f"{operation} of a fake CUDA tensor outside of fake_cuda()")


class Devices(TorchFunctionMode):
    """Calls of torch from Python: "cuda" is translated, generators are looked at, and inside of
    torch.autocast("cuda") products and convolutions are computed in half precision."""

    def __init__(self):
        super().__init__()
        self.half_precision = []

    def autocast(self, device_type, dtype=None, enabled=True, **more):
        """What stands for torch.autocast."""
        if device_type != "cuda":
            return CPU_AUTOCAST(device_type, dtype=dtype, enabled=enabled, **more)
        return Lowered(self.half_precision, dtype if enabled else None)

    def __torch_function__(self, call, types, arguments=(), more=None):
        more = dict(more or {})
        if call is torch.device or getattr(call, "__name__", "") == "__get__":
            return call(*arguments, **more)
        if call in (torch.tensor, torch.as_tensor) and on_cuda(more.get("device")):
            device = more.pop("device")
            return call(*arguments, **more).to(translated(device))
        if call is torch.Tensor.pin_memory:
            return arguments[0]
        if call is torch.Tensor.cuda:
            return arguments[0].to(META)
        arguments = mapped(translated, arguments)
        more = mapped(translated, more)
        if self.half_precision[-1:] not in ([], [None]) and call in PRODUCTS:
            lower = partial(in_precision, dtype=self.half_precision[-1])
            arguments = mapped(lower, arguments)
        result = call(*arguments, **more)
        refuse_other_generator(call, [*arguments, *more.values()], result)
        return result


@dataclass
class Lowered:
    """Inside, products are computed in this precision; None: as they come."""

    stack: list
    dtype: torch.dtype | None

    def __enter__(self):
        self.stack.append(self.dtype)

    def __exit__(self, *_):
        self.stack.pop()


class Operations(TorchDispatchMode):
    """Every operation, computed on the CPU; errors where a CUDA device would give one."""

    def __init__(self):
        super().__init__()
        self.waits = collections.Counter()
        self.allowed = None
        self.random_state = CPU_GENERATOR().manual_seed(0).get_state()

    @contextlib.contextmanager
    def strict(self, allowed=()):
        """Inside, only these operations may make the host wait."""
        before = self.allowed
        self.allowed = set(allowed)
        try:
            yield
        finally:
            self.allowed = before

    def reading(self, function):
        """The function, which may read the device wherever it is called."""
        @functools.wraps(function)
        def free(*arguments, **more):
            before = self.allowed
            self.allowed = None
            try:
                return function(*arguments, **more)
            finally:
                self.allowed = before
        return free

    def __torch_dispatch__(self, operation, types, arguments=(), more=None):
        more = more or {}
        leaves = [*leaves_of(arguments), *leaves_of(more)]
        fakes = {id(x.value): x for x in leaves if isinstance(x, FakeCuda)}
        name = operation.overloadpacket.__name__
        result_on_cuda = is_result_on_cuda(name, arguments, leaves)
        # an index on the host is copied to the device
        is_index = name in INDEXED and isinstance(arguments[0], FakeCuda)
        refuse_mixed_devices(name, fakes, [arguments[0], *arguments[2:]] if is_index else leaves)
        self.note_wait(waits_for(name, arguments, more, fakes, result_on_cuda))
        arguments = mapped(on_host, arguments)
        more = mapped(on_host, more)
        with torch._C._DisableTorchDispatch(), self.own_randomness(operation, result_on_cuda):
            result = operation(*arguments, **more)
        if not result_on_cuda:
            return result
        return mapped(lambda x: wrapped(x, fakes), result)

    def note_wait(self, name):
        """Count an operation for which the host waits; an error where it is not allowed."""
        if name is None:
            return
        if self.allowed is not None and name not in self.allowed:
            raise HostWaits(name)
        self.waits[name] += 1

    @contextlib.contextmanager
    def own_randomness(self, operation, is_on_cuda):
        """Inside, the global draws are those of the device."""
        if not is_on_cuda or torch.Tag.nondeterministic_seeded not in operation.tags:
            yield
            return
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.random_state)
        try:
            yield
        finally:
            self.random_state = torch.default_generator.get_state()
            torch.default_generator.set_state(before)


def mapped(change, tree):
    """Lists, tuples and dicts of values, each changed."""
    if type(tree) in (list, tuple):
        return type(tree)([mapped(change, branch) for branch in tree])
    if type(tree) is dict:
        return {name: mapped(change, branch) for name, branch in tree.items()}
    return change(tree)


def leaves_of(tree):
    """The values in lists, tuples and dicts."""
    if type(tree) not in (list, tuple, dict):
        yield tree
        return
    for branch in tree.values() if type(tree) is dict else tree:
        yield from leaves_of(branch)


def device_of(tensor):
    """The device that a tensor says it is on."""
    device = torch._C.TensorBase.device.__get__(tensor)
    return CUDA if device.type == "meta" else device


# Set on all tensors, since those of torch.func are of torch's own class.
PROPERTIES = {
    "device": device_of,
    "is_cuda": lambda tensor: device_of(tensor).type == "cuda",
    "is_meta": lambda tensor: False,
}


def in_precision(leaf, dtype):
    """A floating-point tensor in this precision; anything else as it is."""
    is_number = isinstance(leaf, FakeCuda) and leaf.is_floating_point()
    return leaf.to(dtype) if is_number else leaf


def there(device):
    """The device that the words mean; "cuda" is the first."""
    return CUDA if on_cuda(device) else torch.device(device)


def on_cuda(device):
    """Whether these words, or this object, name the CUDA device."""
    is_name = isinstance(device, str) and device.split(":")[0] in ("cuda", "meta")
    return is_name or (isinstance(device, torch.device) and device.type in ("cuda", "meta"))


def translated(leaf):
    """The name of the device for the C++ side."""
    return META if on_cuda(leaf) else leaf


def on_host(leaf):
    """An argument for the CPU's kernel."""
    if isinstance(leaf, FakeCuda):
        return leaf.value
    return HOST if on_cuda(leaf) else leaf


def wrapped(leaf, fakes):
    """A result as a fake CUDA tensor: the argument itself where the operation was in place."""
    if not isinstance(leaf, torch.Tensor) or isinstance(leaf, FakeCuda):
        return leaf
    fake = fakes.get(id(leaf))
    if fake is None:
        return FakeCuda(leaf)
    if fake.shape != leaf.shape:
        raise NotImplementedError("a fake CUDA tensor cannot change its shape in place")
    return fake


def is_result_on_cuda(name, arguments, leaves):
    """Whether a result is on the device: that which the operation names, else its arguments'."""
    devices = [x for x in leaves if isinstance(x, torch.device)]
    if devices:
        return on_cuda(devices[0])
    if name in COPIES:
        leaves = leaves_of(arguments[0])
    return any(isinstance(x, FakeCuda) for x in leaves)


def host_tensors(leaves):
    """The tensors on the CPU, without single numbers, which every kernel takes."""
    tensors = [x for x in leaves if isinstance(x, torch.Tensor) and not isinstance(x, FakeCuda)]
    return [x for x in tensors if x.dim() > 0]


def refuse_mixed_devices(name, fakes, leaves):
    """An error where tensors of both devices meet, but for a copy."""
    others = host_tensors(leaves)
    if fakes and others and name not in COPIES:
        shapes = [tuple(x.shape) for x in others]
        raise MixedDevices(f"{name}: cuda tensors and cpu tensors of shapes {shapes}")


def refuse_other_generator(call, arguments, result):
    """An error where a result is on another device than the generator that it is drawn by."""
    if not isinstance(result, torch.Tensor):
        return
    for generator in arguments:
        if not isinstance(generator, CPU_GENERATOR):
            continue
        if generator.device.type != result.device.type:
            name = getattr(call, "__name__", call)
            raise WrongGenerator(f"{name}: {generator.device} draws for {result.device}")


def waits_for(name, arguments, more, fakes, result_on_cuda):
    """The name of what the host waits for in an operation, or None."""
    if name in COPIES:
        return copy_between_devices(name, arguments, more, result_on_cuda)
    if not fakes:
        return None
    if name in INDEXED:
        index = list(leaves_of(arguments[1]))
        if any(map(is_mask, index)):
            return "index by mask"
        return "copy from the host" if host_tensors(index) else None
    # of a single draw torch looks whether its weights are valid
    is_single_draw = name == "multinomial" and arguments[1] == 1
    counts_repeats = name == "repeat_interleave" and more.get("output_size") is None
    return name if name in READING or is_single_draw or counts_repeats else None


def is_mask(leaf):
    return isinstance(leaf, torch.Tensor) and leaf.dtype == torch.bool


def copy_between_devices(name, arguments, more, result_on_cuda):
    """'copy to the host', 'copy from the host', or None where the host waits for no copy."""
    source = arguments[0] if name == "_to_copy" else arguments[1]
    from_cuda = isinstance(next(leaves_of(source)), FakeCuda)
    if from_cuda == result_on_cuda:
        return None
    if from_cuda:
        return "copy to the host"
    is_asynchronous = more.get("non_blocking") or (name == "copy_" and arguments[2:3] == (True,))
    return None if is_asynchronous else "copy from the host"


def stand_ins_of(operations):
    """What stands for functions of torch.cuda, by their names."""
    def seed(number):
        operations.random_state = CPU_GENERATOR().manual_seed(number).get_state()

    def set_random_state(state, device=None):
        operations.random_state = state

    return {
        "manual_seed_all": seed,
        "is_available": lambda: True,
        "is_bf16_supported": lambda *_, **__: True,
        "is_current_stream_capturing": lambda: False,
        "device_count": lambda: 1,
        "set_device": lambda device: None,
        "synchronize": lambda *_: None,
        "get_device_name": lambda *_: "fake CUDA device",
        "max_memory_allocated": lambda *_: 0,
        "get_rng_state": lambda device=None: operations.random_state,
        "set_rng_state": set_random_state,
        "get_rng_state_all": lambda: [operations.random_state],
        "set_rng_state_all": lambda states: set_random_state(states[0]),
    }


@contextlib.contextmanager
def fake_cuda():
    """Inside, there is a CUDA device; gives the `Operations` that it computes.

    What is made inside must be used inside. Nothing is changed afterwards.
    """
    operations = Operations()
    devices = Devices()
    stream = SimpleNamespace(is_capturing=lambda: False)
    patch = mock.patch.object
    patches = [
        *(patch(torch.cuda, name, own) for name, own in stand_ins_of(operations).items()),
        # mock undoes this by removing them again
        *(patch(torch.Tensor, name, property(own)) for name, own in PROPERTIES.items()),
        patch(torch.accelerator, "current_stream", lambda *_: stream),
        patch(torch.backends.cudnn, "is_acceptable", lambda tensor: False),
        patch(torch, "Generator", FakeGenerator),
        patch(torch, "autocast", devices.autocast),
    ]
    overwrites = torch.__future__.get_overwrite_module_params_on_conversion()
    set_overwriting = torch.__future__.set_overwrite_module_params_on_conversion
    with contextlib.ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        # a parameter that moves is made anew: its tensor is of another class
        stack.callback(set_overwriting, overwrites)
        set_overwriting(True)
        stack.enter_context(operations)
        stack.enter_context(devices)
        yield operations

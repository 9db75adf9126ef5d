"""Batches whose files the main process decodes on a device: on the CPU they equal those of the workers bit for bit."""
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import Subset

from datasets import batches, make_loader, on_device
from datasets.image_folder import image_folder
from datasets.images import ImageDataset, collate
from datasets.on_device import Packed, require_nvjpeg
from datasets.samplers import select
from datasets.transforms import AUGMENTATIONS, eval_transform, train_transform
from tests.datasets.pictures import save_jpeg, textured
from tests.datasets.test_loader import equal
from utilities.errors import RunError, UsageError

HALF = (0.5, 0.5, 0.5)
SIDE = 70   # no crop of the pictures is twice as large, so that the workers decode at full size too

pytestmark = pytest.mark.skipif(not hasattr(torchvision.io, "decode_jpeg"), reason="torchvision decodes no more")


def png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, format="PNG")


@pytest.fixture
def pictures(tmp_path):
    """16 files of different sizes in 8 classes: JPEG in colour, one grey, one in CMYK, one turned, and two PNG."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for row in range(16):
        path, image = tmp_path / f"class_{row // 2}" / f"{row}.jpg", textured(60 + 5 * row, 130 - 3 * row, seed=row)
        if row in (4, 12):
            png(path.with_suffix(".png"), image)
        else:
            mode = {1: "L", 6: "CMYK"}.get(row, "RGB")
            save_jpeg(path, image, mode, **({"exif": turned} if row == 3 else {}))
    return image_folder(tmp_path)


def training(images, decode, augmentation="base", workers=0, state=None, **share):
    """A training loader and its sampler."""
    sampler = select("class_random", images.labels, bs=4, samples_per_class=2, seed=0, **share)
    if state:
        sampler.load_state_dict(state)
    transform = train_transform(augmentation, SIDE, HALF, HALF)
    return make_loader(images, transform, sampler, workers=workers, seed=5, device="cpu", decode=decode), sampler


def two_epochs(loader):
    return [batch for _ in range(2) for batch in batches(loader, "cpu")]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_training_batches_are_those_of_the_workers(pictures, augmentation):
    here, there = (two_epochs(training(pictures.train, decode, augmentation)[0]) for decode in ("cpu", "nvjpeg"))
    assert len(here) == 4 and equal(here, there)
    assert there[0].image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(pictures, workers):
    here, there = (two_epochs(training(pictures.train, "nvjpeg", "adv", number)[0]) for number in (0, workers))
    assert equal(here, there)


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_batches_are_those_of_the_workers(pictures, workers):
    seen = [list(batches(make_loader(pictures.test, eval_transform(SIDE, HALF, HALF), batch_size=3, workers=workers,
                                     device="cpu", decode=decode), "cpu")) for decode in ("cpu", "nvjpeg")]
    assert [len(batch.label) for batch in seen[1]] == [3, 3, 2] and equal(*seen)


def test_a_part_of_the_images_is_named_by_its_rows(pictures):
    """As the evaluation shares images between processes."""
    loader = make_loader(pictures.test, eval_transform(SIDE, HALF, HALF), device="cpu", decode="nvjpeg")
    part = next(batches(loader.over(Subset(loader.dataset, [7, 1, 4])), "cpu"))
    whole = next(batches(loader, "cpu"))
    assert part.index.tolist() == [7, 1, 4] and torch.equal(part.image, whole.image[[7, 1, 4]])


def test_workers_hand_over_files_and_the_pixels_of_others(pictures):
    dataset = ImageDataset(pictures.train, train_transform("none", SIDE, HALF, HALF), encoded=True)
    packed = collate([dataset[row] for row in range(8)]).image
    others = [row for row, path in enumerate(pictures.train.paths) if path.name in ("3.jpg", "4.png", "6.jpg")]
    assert isinstance(packed, Packed) and packed.place.tolist() == [row for row in range(8) if row not in others]
    assert packed.pixels.shape == (3, 3, SIDE, SIDE) and packed.data.dtype == torch.uint8
    files = [pictures.train.paths[row].read_bytes() for row in packed.place.tolist()]
    assert packed.length.tolist() == [len(file) for file in files] and bytes(packed.data.tolist()) == b"".join(files)


def test_batches_without_a_file_pass(tmp_path):
    for row in range(4):
        png(tmp_path / f"class_{row}" / "a.png", textured(50, 60))
    images = image_folder(tmp_path).train
    seen = [list(batches(make_loader(images, eval_transform(32, HALF, HALF), device="cpu", decode=decode), "cpu"))
            for decode in ("cpu", "nvjpeg")]
    assert equal(*seen)


def test_resumes_within_an_epoch_and_leaves_the_global_stream_alone(pictures):
    whole, stream = two_epochs(training(pictures.train, "cpu", "adv")[0]), torch.get_rng_state()
    loader, sampler = training(pictures.train, "nvjpeg", "adv", workers=1)
    next(batches(loader, "cpu"))
    rest, _ = training(pictures.train, "nvjpeg", "adv", state=sampler.state_dict())
    assert equal(two_epochs(rest), whole[1:]) and torch.equal(torch.get_rng_state(), stream)


def test_files_are_decoded_some_at_once(pictures, monkeypatch):
    numbers, real = [], torchvision.io.decode_jpeg
    monkeypatch.setattr(on_device, "AT_ONCE", 3)
    monkeypatch.setattr(torchvision.io, "decode_jpeg",
                        lambda files, **options: numbers.append(len(files)) or real(files, **options))
    loader = make_loader(pictures.test, eval_transform(SIDE, HALF, HALF), device="cpu", decode="nvjpeg")
    assert len(next(batches(loader, "cpu")).label) == 8 and numbers == [3, 3, 1]


def refuse(error):
    def decode_jpeg(files, **options):
        raise error
    return decode_jpeg


def test_files_beyond_the_device_are_decoded_by_the_cpu(pictures, monkeypatch):
    expected = two_epochs(training(pictures.train, "cpu")[0])
    monkeypatch.setattr(torchvision.io, "decode_jpeg", refuse(RuntimeError("unsupported JPEG")))
    assert equal(two_epochs(training(pictures.train, "nvjpeg")[0]), expected)


def test_want_of_memory_is_told(pictures, monkeypatch):
    monkeypatch.setattr(torchvision.io, "decode_jpeg", refuse(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        two_epochs(training(pictures.train, "nvjpeg")[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_file_is_named(pictures, workers):
    path = pictures.test.paths[1]
    path.write_bytes(path.read_bytes()[:-300])
    transform = eval_transform(SIDE, HALF, HALF)
    loader = make_loader(pictures.test, transform, workers=workers, device="cpu", decode="nvjpeg")
    with pytest.raises(RunError) as caught:
        list(batches(loader, "cpu"))
    assert str(caught.value).startswith(f"{path}: this image cannot be decoded") and "\n" not in str(caught.value)


def test_a_file_that_the_device_finds_damaged_is_named(pictures):
    """Beginning and end are there, the quantisation tables are not."""
    path = pictures.test.paths[1]
    path.write_bytes(path.read_bytes().replace(b"\xff\xdb", b"\xff\xef"))
    loader = make_loader(pictures.test, eval_transform(SIDE, HALF, HALF), device="cpu", decode="nvjpeg")
    assert isinstance(loader.dataset[1][0], on_device.Encoded)
    with pytest.raises(RunError, match=path.name):
        list(batches(loader, "cpu"))


def test_refused_where_the_device_cannot(monkeypatch):
    with pytest.raises(UsageError, match="needs a GPU, and this run computes on the CPU: pass --decode cpu"):
        require_nvjpeg(torch.device("cpu"))
    monkeypatch.setattr(torchvision.io, "decode_jpeg", refuse(RuntimeError("no nvJPEG\nin this build")))
    with pytest.raises(UsageError, match=r"cannot decode on this GPU \(no nvJPEG\); pass --decode cpu"):
        require_nvjpeg(torch.device("cuda"))
    monkeypatch.delattr(torchvision.io, "decode_jpeg")
    with pytest.raises(UsageError, match="decodes no images any more"):
        require_nvjpeg(torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gives_near_pixels_from_pinned_memory(pictures, workers):
    device = torch.device("cuda")
    require_nvjpeg(device)
    sampler = select("class_random", pictures.train.labels, bs=4, samples_per_class=2, seed=0)
    loader = make_loader(pictures.train, train_transform("adv", SIDE, HALF, HALF), sampler, workers=workers, seed=5,
                         device=device, decode="nvjpeg")
    assert loader.pin_memory
    for here, there in zip(two_epochs(training(pictures.train, "cpu", "adv")[0]),
                           [batch for _ in range(2) for batch in batches(loader, device)]):
        assert there.image.is_cuda and here.index.tolist() == there.index.tolist()
        assert (there.image.cpu() - here.image).abs().mean() < 0.03                # of values from -1 to 1

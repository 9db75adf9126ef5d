"""Embedding a whole set: order, values, and a network left as it was."""
import torch
from PIL import Image

import architectures
from datasets import ImageList, make_loader
from datasets.transforms import eval_transform
from evaluation.embed import embed


def test_rows_stand_in_the_order_of_the_images_whatever_the_batch(tmp_path):
    random = torch.Generator().manual_seed(0)
    paths = []
    for i in range(7):
        pixels = torch.randint(256, (16, 16, 3), generator=random, dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    images = ImageList(paths, [0, 0, 1, 1, 2, 2, 2], ["a", "b", "c"])
    network = architectures.select("convnet_normalize", embed_dim=8, pretrained=False)
    network.train()
    transform = eval_transform(16, network.mean, network.std)
    whole, labels = embed(network, make_loader(images, transform, batch_size=7), torch.device("cpu"))
    parts, _ = embed(network, make_loader(images, transform, batch_size=3), torch.device("cpu"))
    torch.testing.assert_close(whole, parts)
    assert labels.tolist() == images.labels and network.training
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(7))

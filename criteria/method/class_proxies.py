"""A term over images and proxies of all classes, beside a loss over the pairs of a batch."""
from torch import Tensor, nn

from criteria.proxies import cosine, new_proxies, own_and_others
from utilities.pairwise import unit


class ClassProxies(nn.Module):
    """The plain pair loss `GPW` between images and one learned proxy p of every training class:

        L = weight mean_i [ sum_{k != y} q_ik s_ik - s_iy ],   s_ik = cos(z_i, p_k),   y the class of image i
        q_ik = softmax_{k != y}(sharpness s_ik), detached

    Proxies are from Movshovitz-Attias et al., "No Fuss Distance Metric Learning Using Proxies" (ICCV 2017); here they
    stand in the place of the batch's other images. A batch holds few of the classes; a proxy stands for its class in
    every step, so that images are pushed from classes that are not in their batch. With one class there is nothing to
    push from. lr: the proxies' own rate, without decay.
    """

    def __init__(self, n_classes: int, embed_dim: int, weight: float = 1.0,
                 sharpness: float = 20.0, lr: float = 1e-2):
        super().__init__()
        self.weight = weight
        self.sharpness = sharpness
        self.lr = lr
        self.proxies = new_proxies(n_classes, embed_dim)  # (C, D)

    def param_groups(self) -> list[dict]:
        """The optimizer's group of the proxies."""
        return [{"params": [self.proxies], "lr": self.lr, "weight_decay": 0.0}]

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """z (B, D), label (B,) below n_classes -> the weighted term, a scalar."""
        label = label.long()
        s = cosine(unit(z), self.proxies)  # (B, C)
        own = s.gather(1, label[:, None])  # (B, 1)
        _, others = own_and_others(self.sharpness * s.detach(), label)  # (B, C)
        push = (others.softmax(-1) * s).sum(-1, keepdim=True)  # (B, 1)
        if s.shape[1] == 1:
            push = 0 * own
        return self.weight * (push - own).mean()

"""The projection: two linear maps, of sketches and of photos, that an embedding is made of."""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ProjectedEmbedding(nn.Module):
    """Trained: two linear maps of the tower's features (sketchlm.retrieval.distillation), or of the connector's tokens
    (sketchlm.contrast; see sketchlm.retrieval.embedding).

    A photo has as much of each feature as its strongest patches have (log of the sum of exponentials over them); a
    sketch weighs the features, and its weights sum to one. So the maps settle on parts and classes that patches show.
    The last number of a photo's vector is 1, that of a sketch's a constant: their product is the log odds of yes.
    """

    def __init__(self, width: int, dim: int, tower: str, connector: str = "") -> None:
        """width: of what is mapped; dim: features, one less than the numbers of a vector; tower, connector: their
        fingerprints, the latter where the connector's tokens are mapped."""
        super().__init__()
        self.tower = tower
        self.connector = connector
        self.photo = nn.Linear(width, dim)
        self.sketch = nn.Linear(width, dim)
        self.scale = nn.Parameter(torch.tensor([1.0]))  # one number, and no scalar: FSDP splits none
        self.bias = nn.Parameter(torch.tensor([-2.0]))
        self.sharpness = nn.Parameter(torch.tensor([1.0]))
        """Logarithm of how much the strongest patch counts beside the others."""
        nn.init.zeros_(self.photo.bias)
        self.sketch.load_state_dict(self.photo.state_dict())  # the two meet sooner

    @property
    def dim(self) -> int:
        return self.photo.out_features + 1

    @property
    def fingerprint(self) -> str:
        numbers = torch.cat([p.detach().float().cpu().flatten() for _, p in sorted(self.named_parameters())])
        made_by = (self.tower + self.connector).encode()
        return hashlib.sha256(made_by + numbers.numpy().tobytes()).hexdigest()[:16]

    def sketches(self, features: Tensor) -> Tensor:
        """[N, T, D] to [N, d]."""
        return self.asking(self.sketch(self._even(features).mean(1)))

    def asking(self, wanted: Tensor) -> Tensor:
        """What is looked for, features [N, dim] as logits of their weights, to vectors [N, d]."""
        return torch.cat([self.scale * wanted.softmax(-1), self.bias.expand(len(wanted), 1)], dim=1)

    def photos(self, features: Tensor) -> Tensor:
        """[N, T, D] to [N, d]."""
        sharp = self.sharpness.exp()
        shown = torch.logsumexp(sharp * self.photo(self._even(features)), dim=1) / sharp
        return torch.cat([shown, torch.ones_like(shown[:, :1])], dim=1)

    def _even(self, features: Tensor) -> Tensor:
        weight = self.photo.weight
        return F.layer_norm(features.to(weight.device, weight.dtype), features.shape[-1:])

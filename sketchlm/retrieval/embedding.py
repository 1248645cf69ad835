"""Embeddings: a sketch and a photo as vectors whose product tells how likely one is in the other. They are what the
coarse search compares; anything with these two functions and a fingerprint will do.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sketchlm.fingerprint import fingerprint
from sketchlm.retrieval.scorer import Scorer
from sketchlm.tokenizer import first_line

FILE = "embedding.safetensors"
"""Beside the files of a bundle, which does not count it among them."""
BATCH = 256


class Embedding(Protocol):
    """Both functions take the tower's features [N, T, D] to vectors [N, d]; the product of two is a score."""

    @property
    def fingerprint(self) -> str:
        """Tells this embedding from others; a file name holds it."""
        ...

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        ...

    def sketches(self, features: Tensor) -> Tensor: ...
    def photos(self, features: Tensor) -> Tensor: ...


class PooledEmbedding:
    """Untrained: the mean of the connector's features, of length one.

    Centring photos, sketches or both on their means kept no more of the exhaustive top 10, nor did the greatest
    feature instead of the mean (1,000 scenes of shapeworld, 2026-11-26: 0.69 of it in the first 100; centred 0.49 to
    0.70, greatest 0.69).
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.dim = int(scorer.llava.config.text_config.hidden_size)
        self.fingerprint = fingerprint(scorer.llava, ("connector",), tower=scorer.tower, kind="pooled")

    def sketches(self, features: Tensor) -> Tensor:
        """[N, T, D] to [N, d]."""
        return F.normalize(self._scorer.connected(features).float().mean(1), dim=-1)

    photos = sketches


class ProjectedEmbedding(nn.Module):
    """Trained (sketchlm.retrieval.distillation): two linear maps of the tower's features.

    A photo has as much of each feature as its strongest patches have (log of the sum of exponentials over them); a
    sketch weighs the features, and its weights sum to one. So the maps settle on parts and classes that patches show.
    The last number of a photo's vector is 1, that of a sketch's a constant: their product is the log odds of yes.
    """

    def __init__(self, width: int, dim: int, tower: str) -> None:
        """width: of the tower; dim: features, one less than the numbers of a vector; tower: its fingerprint."""
        super().__init__()
        self.tower = tower
        self.photo = nn.Linear(width, dim)
        self.sketch = nn.Linear(width, dim)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))
        self.sharpness = nn.Parameter(torch.tensor(1.0))
        """Logarithm of how much the strongest patch counts beside the others."""
        nn.init.zeros_(self.photo.bias)
        self.sketch.load_state_dict(self.photo.state_dict())  # the two meet sooner

    @property
    def dim(self) -> int:
        return self.photo.out_features + 1

    @property
    def fingerprint(self) -> str:
        numbers = torch.cat([p.detach().float().cpu().flatten() for _, p in sorted(self.named_parameters())])
        return hashlib.sha256(self.tower.encode() + numbers.numpy().tobytes()).hexdigest()[:16]

    def sketches(self, features: Tensor) -> Tensor:
        """[N, T, D] to [N, d]."""
        weights = self.sketch(self._even(features).mean(1)).softmax(-1)
        return torch.cat([self.scale * weights, self.bias.expand(len(weights), 1)], dim=1)

    def photos(self, features: Tensor) -> Tensor:
        """[N, T, D] to [N, d]."""
        sharp = self.sharpness.exp()
        shown = torch.logsumexp(sharp * self.photo(self._even(features)), dim=1) / sharp
        return torch.cat([shown, torch.ones_like(shown[:, :1])], dim=1)

    def _even(self, features: Tensor) -> Tensor:
        weight = self.photo.weight
        return F.layer_norm(features.to(weight.device, weight.dtype), features.shape[-1:])


@torch.inference_mode()
def embedded(embedding: Embedding, features: NDArray[np.float16]) -> NDArray[np.float32]:
    """Vectors [N, d] of photos by their features [N, T, D], BATCH of which are in memory at once."""
    blocks = [
        embedding.photos(torch.from_numpy(np.array(features[start : start + BATCH]))).float().cpu().numpy()
        for start in range(0, len(features), BATCH)
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, embedding.dim), np.float32)


def save_embedding(embedding: ProjectedEmbedding, path: Path, **trained: str | int | float) -> None:
    """Write a file, whole or not at all; `trained`: what a reader should know of how it was made."""
    about = {
        "width": embedding.photo.in_features,
        "dim": embedding.photo.out_features,
        "tower": embedding.tower,
        "trained": trained,
    }
    weights = {name: weight.detach().cpu().contiguous() for name, weight in embedding.state_dict().items()}
    begun = path.with_name(f".tmp-{path.name}")
    save_file(weights, begun, metadata={"embedding": json.dumps(about)})
    begun.replace(path)


def load_embedding(path: Path, scorer: Scorer) -> ProjectedEmbedding:
    """Read it back, onto the model's device. Raises ValueError for a file that is none, and one of another model."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["embedding"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        embedding = ProjectedEmbedding(about["width"], about["dim"], about["tower"])
        embedding.load_state_dict(weights)
    except FileNotFoundError:
        raise ValueError(f"there is no embedding {path}: train one (sketchlm.retrieval.distillation)") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} is no embedding: {first_line(error)}; copy it again, or train it again") from None
    if embedding.tower != scorer.tower:
        raise ValueError(
            f"{path} was trained for another model: its tower is {embedding.tower}, this one's {scorer.tower}; train "
            "one for this model, or go on without (PooledEmbedding)"
        )
    return embedding.to(scorer.device).requires_grad_(False).eval()


def embedding_of(folder: str | Path, scorer: Scorer) -> Embedding:
    """The one that was trained for a bundle and lies in its folder; without such, the untrained one.

    Raises ValueError for one that does not fit the model.
    """
    path = Path(folder) / FILE
    return load_embedding(path, scorer) if path.is_file() else PooledEmbedding(scorer)

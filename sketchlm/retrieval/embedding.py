"""Embeddings: a sketch and a photo as vectors whose product tells how likely one is in the other. They are what the
coarse search compares; anything with these two functions and a fingerprint will do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sketchlm.bundle import HEADS
from sketchlm.fingerprint import fingerprint
from sketchlm.retrieval.projection import ProjectedEmbedding
from sketchlm.retrieval.scorer import Scorer
from sketchlm.tokenizer import first_line

FILE = "embedding.safetensors"
"""Beside the files of a bundle, which does not count it among them."""
BATCH = 256
CONTRAST = "contrast.pictures."
"""Before the names of its weights among the heads of a bundle (see sketchlm.contrast)."""


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


class ConnectedEmbedding:
    """Trained beside the answers (sketchlm.contrast): maps of the connector's tokens, of one model."""

    def __init__(self, maps: ProjectedEmbedding, scorer: Scorer) -> None:
        self.maps = maps.to(scorer.device).requires_grad_(False).eval()
        self._scorer = scorer
        self.dim = maps.dim
        self.fingerprint = maps.fingerprint

    def sketches(self, features: Tensor) -> Tensor:
        """[N, T, D] to [N, d]."""
        return self.maps.sketches(self._scorer.connected(features))

    def photos(self, features: Tensor) -> Tensor:
        """[N, T, D] to [N, d]."""
        return self.maps.photos(self._scorer.connected(features))


@torch.inference_mode()
def embedded(embedding: Embedding, features: NDArray[np.float16]) -> NDArray[np.float32]:
    """Vectors [N, d] of photos by their features [N, T, D], BATCH of which are in memory at once."""
    blocks = [
        embedding.photos(torch.from_numpy(np.array(features[start : start + BATCH]))).float().cpu().numpy()
        for start in range(0, len(features), BATCH)
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, embedding.dim), np.float32)


def save_embedding(
    embedding: ProjectedEmbedding | ConnectedEmbedding, path: Path, **trained: str | int | float
) -> None:
    """Write a file, whole or not at all; `trained`: what a reader should know of how it was made."""
    maps = embedding.maps if isinstance(embedding, ConnectedEmbedding) else embedding
    about = {
        "width": maps.photo.in_features,
        "dim": maps.photo.out_features,
        "tower": maps.tower,
        "connector": maps.connector,
        "trained": trained,
    }
    weights = {name: weight.detach().cpu().contiguous() for name, weight in maps.state_dict().items()}
    begun = path.with_name(f".tmp-{path.name}")
    save_file(weights, begun, metadata={"embedding": json.dumps(about)})
    begun.replace(path)


def load_embedding(path: Path, scorer: Scorer) -> ProjectedEmbedding | ConnectedEmbedding:
    """Read it back, onto the model's device. Raises ValueError for a file that is none, and one of another model."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["embedding"])
            weights = {name: torch.atleast_1d(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no mapping
        embedding = ProjectedEmbedding(about["width"], about["dim"], about["tower"], about.get("connector", ""))
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
    if embedding.connector and embedding.connector != (here := connector_of(scorer)):
        raise ValueError(
            f"{path} was trained for another model: its connector is {embedding.connector}, this one's {here}; make it "
            "again of this model's heads (contrastive_embedding), or go on without (PooledEmbedding)"
        )
    if embedding.connector:
        return ConnectedEmbedding(embedding, scorer)
    return embedding.to(scorer.device).requires_grad_(False).eval()


def contrastive_embedding(heads: Mapping[str, Tensor], scorer: Scorer) -> ConnectedEmbedding:
    """The one that a model was trained with (loss.contrastive), of its own heads (`Bundle.heads`).

    Raises ValueError for heads that hold none, and for those of another model.
    """
    mine = {name.removeprefix(CONTRAST): weight for name, weight in heads.items() if name.startswith(CONTRAST)}
    try:
        dim, width = mine["photo.weight"].shape
        maps = ProjectedEmbedding(width, dim, scorer.tower, connector_of(scorer))
        maps.load_state_dict(mine)
    except (KeyError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"the heads hold no whole embedding ({said}): train the model with loss.contrastive above 0"
        ) from None
    if width != (here := scorer.llava.config.text_config.hidden_size):
        raise ValueError(
            f"the heads map tokens of width {width}, this model's have {here}: give the heads of its bundle"
        )
    return ConnectedEmbedding(maps, scorer)


def connector_of(scorer: Scorer) -> str:
    """Fingerprint of a model's connector."""
    return fingerprint(scorer.llava, ("connector",))


def embedding_of(folder: str | Path, scorer: Scorer) -> Embedding:
    """The one that was trained for a bundle: a file of its own in the folder, else what the bundle was trained with;
    without either, the untrained one.

    Raises ValueError for one that does not fit the model.
    """
    path, heads = Path(folder) / FILE, Path(folder) / HEADS
    if path.is_file():
        return load_embedding(path, scorer)
    weights = load_file(heads) if heads.is_file() else {}
    if any(name.startswith(CONTRAST) for name in weights):
        return contrastive_embedding(weights, scorer)
    return PooledEmbedding(scorer)

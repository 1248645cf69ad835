"""Contrast: sketches, photos and the names of classes in one space, each asked which photos show it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sketchlm.collator import Batch
from sketchlm.retrieval.projection import ProjectedEmbedding

SCALE = 5.0
"""Of the log odds at the start. A rate of 1e-3 hardly moves it in some hundred steps: connector and head alone, 400
steps of `tiny` from a scale of 1, put 0.81 right among the first 20 of 200 photos, from 5 or 10 0.97; after 100 steps
it was 0.30 and 0.86 (2026-11-26)."""
RARE = -2.0
"""Log odds at the start, about: most photos do not show what is looked for."""


class ContrastiveHead(nn.Module):
    """Which photos of a batch show what a sketch shows, and which show what the name of a class says.

    It reads the connector's tokens, not the tower's: all that the language model sees goes through the connector, and
    where the tower is frozen it is the first that can learn to bring sketches and photos together. `pictures` is what
    the coarse search of retrieval compares (sketchlm.retrieval.embedding.contrastive_embedding).

    Every pair is a question of yes or no. A scene shows several classes and several scenes show one: a softmax over
    either would set the right ones against each other. What the head says are log odds, as those of the coarse search,
    and the batches of other processes are not needed for it.
    """

    names: Tensor

    def __init__(self, width: int, dim: int, names: Sequence[Sequence[int]], num_tokens: int) -> None:
        """width: of the language model; dim: features that are compared; names: token ids of each class's name;
        num_tokens: of a picture."""
        super().__init__()
        self.pictures = ProjectedEmbedding(width, dim, tower="")
        nn.init.constant_(self.pictures.scale, SCALE)
        # patches that say nothing yet have log(num_tokens) / sharpness of each feature, and sharpness begins at e
        nn.init.constant_(self.pictures.bias, RARE - SCALE * math.log(num_tokens) / math.e)
        self.words = nn.Linear(width, dim)
        length = max(map(len, names))
        padded = torch.tensor([[*ids, *[-1] * (length - len(ids))] for ids in names])
        self.register_buffer("names", padded, persistent=False)

    def forward(self, connected: Tensor, batch: Batch, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """connected: [U, P, D] tokens of the connector; embed: token ids to the language model's input embeddings.
        Returns the mean loss of sketches and photos, and of names and photos, added up: a scalar, 0 where no photo
        shows a known class.

        Photos that show none are left out: it may be that nobody looked for these classes in them. What is left may
        be nothing at all; every weight has a gradient all the same, for which DDP waits.
        """
        with torch.autocast(connected.device.type, enabled=False):
            shows = batch.shows.reshape(-1, len(self.names))  # [V, C]
            some, drawn = shows.any(dim=1), batch.labels >= 0
            photos = self.pictures.photos(connected[batch.patch_index[some]])
            sketches = self.pictures.sketches(connected[drawn])
            wanted = shows[some].T
            by_sketch = pair_loss(sketches @ photos.T, wanted[batch.labels[drawn]])
            return by_sketch + pair_loss(self.named(embed) @ photos.T, wanted)

    def named(self, embed: Callable[[Tensor], Tensor]) -> Tensor:
        """Vectors [C, d] of the names of the classes, to be compared with those of photos as a sketch's are."""
        held = (self.names >= 0)[..., None]
        embedded = embed(self.names.clamp(min=0)).float() * held
        mean = embedded.sum(dim=1) / held.sum(dim=1).clamp(min=1)
        return self.pictures.asking(self.words(F.layer_norm(mean, mean.shape[-1:])))


def pair_loss(log_odds: Tensor, shown: Tensor) -> Tensor:
    """Mean cross entropy of yes and no over pairs; 0 of none. log_odds: [N, M]; shown: [N, M] bool."""
    each = F.binary_cross_entropy_with_logits(log_odds, shown.float(), reduction="sum")
    return each / max(1, log_odds.numel())

"""Fusion: the photo's tokens look at the sketch's before both join the text (`model.fusion cross_attention`).

Only photo tokens change: the prompt up to the photo, with the sketch in it, may still be shared by many photos (see
sketchlm.retrieval.scorer). A row that shows one picture is left alone.

A layer has the matrices of one of the language model, so that a model with one layer of each kind exchanged has as many
parameters (`sketchlm.estimate.matched_sizes`), and fewer operations: text and sketch do not go through it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FusionLayer(nn.Module):
    """Cross-attention and an MLP (SwiGLU, as Llama's), each behind a norm and beside a residual.

    There are no positions: what the tower says of where a patch lies is in its token.
    """

    def __init__(self, text: Any, is_open: bool) -> None:
        """text: config of the language model, whose widths and heads it takes; is_open: see `Fusion`."""
        super().__init__()
        width, inner = text.hidden_size, text.intermediate_size
        self.heads = int(text.num_attention_heads)
        self.photo_norm, self.sketch_norm, self.mlp_norm = (nn.RMSNorm(width, text.rms_norm_eps) for _ in range(3))
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate_proj, self.up_proj = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(inner, width, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=text.initializer_range)
        if not is_open:
            nn.init.zeros_(self.o_proj.weight)
            nn.init.zeros_(self.down_proj.weight)

    def forward(self, photos: Tensor, sketches: Tensor) -> Tensor:
        """photos [R, P, W]; sketches [R, P, W], or [1, P, W] where all look at one."""
        asked, shown = self.photo_norm(photos), self.sketch_norm(sketches)
        projected = (self.q_proj(asked), self.k_proj(shown), self.v_proj(shown))
        q, k, v = (states.unflatten(-1, (self.heads, -1)).transpose(1, 2) for states in projected)
        k, v = (states.expand(len(q), -1, -1, -1) for states in (k, v))
        met = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        photos = photos + self.o_proj(met)
        inner = self.mlp_norm(photos)
        return photos + self.down_proj(F.silu(self.gate_proj(inner)) * self.up_proj(inner))


class Fusion(nn.Module):
    """The layers, one after the other."""

    def __init__(self, text: Any, num_layers: int, is_open: bool = False, seed: int = 0) -> None:
        """text: see `FusionLayer`; is_open: whether layers add something from the start, else their last matrices are
        zero at first, as LoRA's are; seed: of the first weights.

        A gate in Flamingo's way, one number before each residual that begins at 0, was tried and does not open: at a
        rate of 1e-3 it stood at 0.02 after 120 steps of `tiny`, whose grounding was no better than without fusion.
        """
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(FusionLayer(text, is_open) for _ in range(num_layers))

    def forward(self, photos: Tensor, sketches: Tensor) -> Tensor:
        """Tokens [R, P, W] of photos that have met their sketches [R, P, W] (or [1, P, W]), in the precision of
        `photos`."""
        precision = next(self.parameters()).dtype
        met, shown = photos.to(precision), sketches.to(precision)
        for layer in self.layers:
            met = layer(met, shown)
        return met.to(photos.dtype)


def attach(llava: Any, fusion: Fusion) -> None:
    """Give a LLaVA its fusion. From then on transformers' own `forward` and `generate` fuse as well."""
    assert fusion_of(llava) is None, "this model has a fusion already"
    llava.model.fusion = fusion
    llava.model.register_forward_pre_hook(_embed_first, with_kwargs=True)


def fusion_of(llava: Any) -> Fusion | None:
    """The fusion of a LLaVA; None where sketch and photo are concatenated alone."""
    return getattr(llava.model, "fusion", None)


def pairs_of(input_ids: Tensor, image_id: int, image_tokens: int) -> tuple[Tensor, Tensor]:
    """Slots of sketches [R] and of their photos [R]: of the rows that show two pictures. Slots are the pictures of a
    batch in reading order.

    input_ids: [B, L], `image_tokens` times `image_id` for each picture.
    """
    pictures = (input_ids == image_id).sum(1) // image_tokens
    first = (pictures.cumsum(0) - pictures)[pictures == 2]
    return first, first + 1


def embed(llava_model: Any, tokens: Tensor, input_ids: Tensor) -> Tensor:
    """What the language model reads [B, L, W]: the embeddings of ids [B, L] with the connector's tokens of the pictures
    [N, P, W], in reading order, in their places; photos fused where the model does so.

    llava_model: `LlavaModel`, the one inside.
    """
    image_id = llava_model.config.image_token_id
    embedded = llava_model.get_input_embeddings()(input_ids)
    tokens = _fused(llava_model, tokens, input_ids)
    return embedded.masked_scatter((input_ids == image_id)[..., None], tokens.to(embedded.dtype))


def _fused(llava_model: Any, tokens: Tensor, input_ids: Tensor) -> Tensor:
    fusion = getattr(llava_model, "fusion", None)
    if fusion is None:
        return tokens
    sketches, photos = pairs_of(input_ids, llava_model.config.image_token_id, tokens.shape[1])
    if len(photos):
        return tokens.index_copy(0, photos, fusion(tokens[photos], tokens[sketches]))
    if not fusion.training:
        return tokens
    # every weight takes part in every batch, whatever it shows: DDP and FSDP wait for each of them
    return tokens + 0.0 * fusion(tokens[:1], tokens[:1])


def _embed_first(llava_model: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """Before `LlavaModel.forward`: where it is given pictures it gets embeddings in their place.

    `generate` hands over pixels or, in later releases, what `get_image_features` made of them.
    """
    encoded = (kwargs.get("mm_encoder_outputs") or {}).get("image")
    if encoded is None and kwargs.get("pixel_values") is not None:
        encoded = llava_model.get_image_features(kwargs["pixel_values"], return_dict=True)
    if encoded is None:
        return None
    embedded = embed(llava_model, torch.stack(list(encoded.pooler_output)), kwargs["input_ids"])
    used = dict.fromkeys({"input_ids", "pixel_values", "mm_encoder_outputs"} & kwargs.keys())
    return args, kwargs | used | {"inputs_embeds": embedded}

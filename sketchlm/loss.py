"""The loss: cross entropy of answer tokens, and what the tower is taught beside it where it starts from nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sketchlm.collator import IGNORE, TASKS, Batch, attention_mask
from sketchlm.contrast import ContrastiveHead
from sketchlm.fusion import embed
from sketchlm.model import num_image_tokens, unwrap


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts of the loss."""

    box_sigma: float = 0.0
    """Spread of the target over neighbouring numbers of a box, in steps of 0.01; 0 = none. Only where
    each number is one token (`tiny`): at 1.2 a small model did not learn boxes in 6 minutes, at 2.5 it did."""
    tower: float = 0.0
    """Weight of the tower's own loss (what each patch and each sketch shows, where a patch lies, and how far the
    object reaches that it shows); 0 = none."""
    grounding: float = 0.0
    """Weight of a loss inside the language model, where it starts from nothing: which patches of the photo
    show what the sketch shows, and the box of what each shows (needs masks, and sketches of known classes);
    0 = none. From yes and no alone 20,000 questions taught a small model nothing, with this 6,000 do, and boxes
    begin to be learned (benchmarks/learn.md)."""
    contrastive: float = 0.0
    """Weight of a loss on what the connector makes of pictures: which photos of a batch show what a sketch shows, and
    what the name of a class says (needs sketches, and objects in photos, of known classes); 0 = none. Its head is the
    coarse search of retrieval (sketchlm.contrast)."""
    contrastive_dim: int = 64
    """Features that it compares."""


class Loss(NamedTuple):
    """total: weighted sum over answer tokens, to be divided by `weight`; auxiliary: the tower's own loss, grounding
    and the contrastive loss, by their weights; contrastive: the last of these alone, as it is; by_task [T, 2]: plain
    sum of cross entropies and number of tokens of each task."""

    total: Tensor
    weight: Tensor
    auxiliary: Tensor
    contrastive: Tensor
    by_task: Tensor


class States(NamedTuple):
    """What a model makes of a batch: the last hidden states [B, L, D], those half way up (where they are asked for,
    else the last again), and each picture [U, P, ...] as the tower and as the connector gives it."""

    last: Tensor
    middle: Tensor
    tower: Tensor
    connected: Tensor


PLACE_WEIGHT = 0.5
"""Of the tower's own loss: where a patch lies, beside what it shows."""
EXTENT_WEIGHT = 0.5
"""Of the tower's own loss, and of grounding: the box of what a patch shows."""
EXTENT_SIGMA = 2.5
"""Spread of its targets over neighbouring numbers."""
NUMBERS = 101
"""Numbers of a box: 0.00, 0.01, ... 1.00."""


class TowerHead(nn.Module):
    """What each patch of a photo shows, where it lies and which box its object has, and what a sketch shows: one
    head for photos and sketches, so that the two meet.

    This stands in for the pretraining of CLIP where a model starts from nothing. A convolutional tower knows where
    a patch lies only from its padding, and does not tell unless asked. Asked for the row and column alone, it told
    them in a form from which a language model made no boxes in 2,000 steps.
    """

    def __init__(self, width: int, num_classes: int, grid: int) -> None:
        """grid: tokens a side."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, num_classes + 1)
        self.locate = nn.Linear(width, 2 * grid)
        self.extend = nn.Linear(width, 4 * NUMBERS)

    def forward(self, features: Tensor, batch: Batch) -> Tensor:
        """features: [U, P, D] of the tower; returns the sum of the losses, a scalar."""
        features = self.norm(features)
        # every weight takes part in every batch, whatever it shows: DDP waits for each one's gradient
        unused = self.classify(features[:1, :1]).float().sum() + self.extend(features[:1, :1]).float().sum()
        loss = 0.0 * unused + PLACE_WEIGHT * self._place_loss(features)
        if len(batch.patch_index):
            shares = batch.patches.flatten(2).transpose(1, 2)  # [V, P, C + 1]
            logits = self.classify(features[batch.patch_index])
            # most patches show nothing: those that show something have three quarters of the say
            shown = 1.0 - shares[..., -1]
            weight = 0.75 * shown / shown.sum().clamp(min=1e-6) + 0.25 * (1 - shown) / (1 - shown).sum().clamp(min=1e-6)
            each = -(shares * F.log_softmax(logits.float(), dim=-1)).sum(-1)
            extents = extent_loss(features[batch.patch_index], batch.extents, self._numbers_of)
            loss = loss + (each * weight).sum() + EXTENT_WEIGHT * extents
        known = batch.labels >= 0
        if known.any():
            whole = self.classify(features[known].mean(dim=1)).float()
            loss = loss + F.cross_entropy(whole, batch.labels[known])
        return loss

    def _numbers_of(self, features: Tensor) -> Tensor:
        """[N, D] to logits [N, 4, NUMBERS]."""
        return self.extend(features).unflatten(-1, (4, NUMBERS))

    def _place_loss(self, features: Tensor) -> Tensor:
        """Row and column of each token."""
        grid = self.locate.out_features // 2
        place = torch.arange(grid, device=features.device)
        wanted = torch.stack([place.repeat_interleave(grid), place.repeat(grid)], dim=-1)  # [P, 2]
        logits = self.locate(features).float().unflatten(-1, (2, grid))
        return F.cross_entropy(logits.flatten(0, 2), wanted.expand(len(features), -1, -1).flatten())


def extent_loss(states: Tensor, extents: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Tensor:
    """How far what is said of boxes is from bells about their true numbers, over patches that show an object.

    states: [V, P, ...]; extents: [V, 4, G, G], NaN where a patch shows none; logits_of: states [N, ...] of the others
    to logits [N, 4, NUMBERS].
    """
    boxes = extents.flatten(2).transpose(1, 2)  # [V, P, 4]
    shown = ~boxes.isnan().any(-1)
    if not shown.any():
        return boxes.new_zeros(())
    target = bell(NUMBERS, (NUMBERS - 1) * boxes[shown].flatten(), EXTENT_SIGMA)
    log_p = F.log_softmax(logits_of(states[shown]).float(), dim=-1)
    return F.kl_div(log_p.flatten(0, 1), target, reduction="batchmean")


def bell(steps: int, centre: Tensor, sigma: float) -> Tensor:
    """Probabilities [N, steps] of the steps 0, 1, ... around each centre [N]: a bell of spread `sigma`, cut off at
    both ends."""
    places = torch.arange(steps, device=centre.device)
    return F.softmax(-0.5 * ((places - centre[:, None]) / sigma) ** 2, dim=-1)


class GroundingHead(nn.Module):
    """Which patches of the photo show the class of the sketch, and which box the object of each patch has, read from
    the middle of the language model.

    Boxes are said with the model's own words for numbers: the answers alone train these some twenty times less often
    than all patches together do.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.match = nn.Linear(width, 1)
        self.extend = nn.Linear(width, 4 * width)

    def forward(self, middle: Tensor, batch: Batch, number_logits: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """middle: [B, L, D] hidden states; number_logits: hidden states to logits of the numbers of a box (none: boxes
        are not asked for). Returns the mean loss, a scalar."""
        rows, starts, photos, classes = batch.pairs.unbind(1)
        unused = self.norm(middle[:1, :1])
        loss = 0.0 * (self.match(unused).sum() + self.extend(unused).sum())  # DDP waits for each weight's gradient
        if not len(rows):
            return loss
        places = starts[:, None] + torch.arange(batch.patches[0, 0].numel(), device=middle.device)
        states = self.norm(middle[rows[:, None], places])
        loss = loss + self._match_loss(states, batch.patches[photos].flatten(2).to(middle.dtype), classes)
        if number_logits is not None:
            said = self.extend(states).unflatten(-1, (4, states.shape[-1]))
            extents = extent_loss(
                said, batch.extents[photos], lambda shown: number_logits(F.rms_norm(shown, shown.shape[-1:]))
            )
            loss = loss + EXTENT_WEIGHT * extents
        return loss

    def _match_loss(self, states: Tensor, shares: Tensor, classes: Tensor) -> Tensor:
        """states: [R, P, D]; shares: [R, C + 1, P]; classes: [R] of the sketches."""
        wanted, nothing = shares[torch.arange(len(classes), device=classes.device), classes], shares[:, -1]
        others = (1 - wanted - nothing).clamp(min=0)
        logits = self.match(states).float()[..., 0]
        found, missed = F.softplus(logits), F.softplus(-logits)
        # other objects are what there is to confuse, so they have more say than the ground
        parts = ((0.5, wanted, missed), (0.35, others, found), (0.15, nothing, found))
        return sum((say * (w * x).sum() / w.sum().clamp(min=1e-6) for say, w, x in parts), start=logits.new_zeros(()))


class Objective(nn.Module):
    """LLaVA and its loss as one module, so that one forward goes through DDP or FSDP."""

    place: Tensor
    numbers: Tensor

    def __init__(
        self,
        model: nn.Module,
        config: LossConfig,
        numbers: Sequence[int] = (),
        classes: int = 0,
        names: Sequence[Sequence[int]] = (),
    ) -> None:
        """numbers: token ids of 0.00 ... 1.00 in order (none: no smoothing); classes: of the tower's loss; names: token
        ids of each class's name, for the contrastive loss.

        Raises ValueError for a loss that lacks what it is made of.
        """
        super().__init__()
        self.model = model
        self.config = config
        if config.box_sigma > 0 and not numbers:
            raise ValueError("loss.box_sigma needs a tokenizer with one token for each of 0.00 ... 1.00; set it to 0")
        place = torch.full((unwrap(model).config.text_config.vocab_size,), -1)
        place[list(numbers)] = torch.arange(len(numbers))
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("numbers", torch.tensor(list(numbers), dtype=torch.long), persistent=False)
        self.tower_head: TowerHead | None = None
        if config.tower > 0:
            self.tower_head = TowerHead(
                unwrap(model).config.vision_config.hidden_size, classes, math.isqrt(num_image_tokens(model))
            )
        self.grounding_head: GroundingHead | None = None
        if config.grounding > 0:
            self.grounding_head = GroundingHead(unwrap(model).config.text_config.hidden_size)
        self.contrastive_head: ContrastiveHead | None = None
        if config.contrastive > 0:
            if not names:
                raise ValueError("loss.contrastive needs classes, and the base bundle names none; set it to 0")
            self.contrastive_head = ContrastiveHead(
                unwrap(model).config.text_config.hidden_size, config.contrastive_dim, names, num_image_tokens(model)
            )
        for parameter in unread(unwrap(model)):
            parameter.requires_grad_(False)  # no loss reaches it, and DDP would wait for its gradient

    @property
    def heads(self) -> nn.ModuleDict:
        """What the loss needs beside the model, by name: a later stage goes on with it."""
        found = {"tower": self.tower_head, "grounding": self.grounding_head, "contrast": self.contrastive_head}
        return nn.ModuleDict({name: head for name, head in found.items() if head is not None})

    def load_heads(self, weights: dict[str, Tensor]) -> None:
        """Weights of the heads of an earlier stage, `tower.`, `grounding.` or `contrast.` before their names; those
        that are not among them begin anew.

        Raises ValueError where a head has other sizes than it had.
        """
        for name, head in self.heads.items():
            if mine := {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}:
                own = {key: tuple(w.shape) for key, w in head.state_dict().items()}
                there = {key: tuple(w.shape) for key, w in mine.items()}
                if differ := sorted(key for key in own | there if own.get(key) != there.get(key)):
                    raise ValueError(
                        f"the base bundle's head {name!r} has {differ[0]} {there.get(differ[0])}, these settings make "
                        f"it {own.get(differ[0])}: take the settings of the stage before (loss.contrastive_dim)"
                    )
                head.load_state_dict(mine)

    def forward(self, batch: Batch, tower_only: bool = False) -> Any:
        """The `Loss` of a batch, or the tower's own loss alone (a warm start)."""
        if tower_only:
            assert self.tower_head is not None, "loss.tower is 0"
            return self.tower_head(tower_features(unwrap(self.model), batch.pixel_values), batch)
        found = states(self.model, batch, self.grounding_head is not None)
        trained = batch.targets != IGNORE
        targets, weights, tasks = batch.targets[trained], batch.weights[trained], batch.tasks[trained]
        # the head only where it is needed: of 1,200 tokens of a LLaVA row some 30 are answers
        logits = unwrap(self.model).lm_head(found.last[trained]).float()
        plain = F.cross_entropy(logits, targets, reduction="none")
        losses = self._smoothed(logits, targets, plain)
        by_task = torch.zeros(len(TASKS), 2, device=plain.device)
        by_task.index_add_(0, tasks, torch.stack([plain.detach(), torch.ones_like(plain)], dim=1))
        auxiliary, contrastive = self._auxiliary(found, batch)
        return Loss((losses * weights).sum(), weights.sum(), auxiliary, contrastive, by_task)

    def _auxiliary(self, found: States, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the heads add, by their weights; and the contrastive loss alone, as it is."""
        auxiliary = contrastive = found.last.new_zeros((), dtype=torch.float)
        if self.tower_head is not None:
            auxiliary = auxiliary + self.config.tower * self.tower_head(found.tower, batch)
        if self.grounding_head is not None:
            grounding = self.grounding_head(found.middle, batch, self._number_logits())
            auxiliary = auxiliary + self.config.grounding * grounding
        if self.contrastive_head is not None:
            words = unwrap(self.model).get_input_embeddings()
            contrastive = self.contrastive_head(found.connected, batch, words)
            auxiliary = auxiliary + self.config.contrastive * contrastive
        return auxiliary, contrastive.detach()

    def _number_logits(self) -> Callable[[Tensor], Tensor] | None:
        """Hidden states to logits of 0.00 ... 1.00, where each of these is one token."""
        if not len(self.numbers):
            return None
        return lambda hidden: unwrap(self.model).lm_head(hidden)[..., self.numbers]

    def _smoothed(self, logits: Tensor, targets: Tensor, plain: Tensor) -> Tensor:
        """Cross entropy against a bell over neighbouring numbers, where the target is a number."""
        sigma = self.config.box_sigma
        place = self.place[targets]
        boxes = place >= 0
        if sigma <= 0 or not bool(boxes.any()):
            return plain
        target = bell(len(self.numbers), place[boxes], sigma)
        log_p = F.log_softmax(logits[boxes], dim=-1)[:, self.numbers]
        return plain.masked_scatter(boxes, -(target * log_p).sum(dim=1))


def encode(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Hidden states [B, L, D] of a packed batch, and the tower's features [U, P, D_tower]."""
    found = states(model, batch)
    return found.last, found.tower


def states(model: Any, batch: Batch, middle: bool = False) -> States:
    """`States` of a packed batch; middle: those half way up are wanted.

    Each picture goes through the tower once, however many rows show it.
    """
    llava = unwrap(model)
    features = tower_features(llava, batch.pixel_values)
    connected = llava.model.multi_modal_projector(features)
    embedded = embed(llava.model, connected[batch.image_index], batch.input_ids)
    outputs = llava.model.language_model(
        inputs_embeds=embedded,
        attention_mask=attention_mask(batch.segments, embedded.dtype),
        position_ids=batch.position_ids,
        use_cache=False,
        output_hidden_states=middle,
    )
    last = outputs.last_hidden_state
    half = outputs.hidden_states[len(outputs.hidden_states) // 2] if middle else last
    return States(last, half, features, connected)


def tower_features(llava: Any, pixel_values: Tensor) -> Tensor:
    """[U, 3, S, S] uint8 to [U, P, D_tower], from the layer that the connector reads."""
    tower = llava.model.vision_tower
    weight = next(tower.parameters())
    pixels = normalise(pixel_values, weight.dtype)
    layer = llava.config.vision_feature_layer
    with torch.set_grad_enabled(weight.requires_grad and torch.is_grad_enabled()):  # no graph through a frozen tower
        states = tower(pixels, output_hidden_states=True).hidden_states
    keep = slice(None) if llava.config.vision_feature_select_strategy == "full" else slice(1, None)  # CLS, or none
    return states[layer][:, keep]


def unread(llava: Any) -> list[nn.Parameter]:
    """Trained weights of the tower behind what the connector reads (a last norm, say)."""
    trained = [parameter for parameter in llava.model.vision_tower.parameters() if parameter.requires_grad]
    if not trained:
        return []
    side = llava.config.vision_config.image_size
    with torch.random.fork_rng(devices=[]):
        seen = tower_features(llava, torch.zeros(1, 3, side, side, dtype=torch.uint8, device=trained[0].device)).sum()
    gradients = torch.autograd.grad(seen, trained, allow_unused=True)
    return [parameter for parameter, gradient in zip(trained, gradients, strict=True) if gradient is None]


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 to CLIP's mean 0 and standard deviation 1."""
    mean = torch.tensor(CLIP_MEAN, device=pixels.device)[:, None, None]
    std = torch.tensor(CLIP_STD, device=pixels.device)[:, None, None]
    return ((pixels.float() / 255 - mean) / std).to(dtype)

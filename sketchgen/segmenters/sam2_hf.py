"""SAM 2.1 through transformers: the same model as `sam2_native`, without the sam2 package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchgen.device import pick_device
from sketchgen.instance import Instance, Mask
from sketchgen.segmenter import SegmenterConfig
from sketchgen.segmenters.sam2_common import (
    find_checkpoint,
    missing_checkpoint,
    mixed_precision,
    segment_with_embeddings,
)


@dataclass(frozen=True)
class _Embedded:
    """Features of one image at three scales, and its size."""

    features: list[Tensor]  # [1, C, h, w] each
    size: tuple[int, int]  # height, width


class Sam2HfSegmenter:
    """Prompts a `transformers.Sam2Model` with boxes; scores are its predicted IoU."""

    def __init__(self, model: Any, config: SegmenterConfig) -> None:
        """model: a `transformers.Sam2Model`; config: its `batch`, `images` and `compile` count."""
        from transformers import Sam2ImageProcessor, Sam2Processor

        # Built here instead of read from the checkpoint's folder: all of SAM 2.1 is prepared alike, and this
        # class resizes with torchvision, so the pixels never depend on which backend a loader picks.
        side = int(model.config.prompt_encoder_config.image_size)
        self._processor = Sam2Processor(Sam2ImageProcessor(size={"height": side, "width": side}))
        self._model = model
        self._device = next(model.parameters()).device
        self._config = config
        if config.compile:
            model.vision_encoder.compile()

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """See `sketchgen.segmenter.Segmenter`."""
        return segment_with_embeddings(images, instances, self._config, self._embed, self._prompt)

    @torch.inference_mode()
    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> list[_Embedded]:
        pixels = self._processor.image_processor(
            list(images), input_data_format="channels_last", return_tensors="pt", device=self._device
        ).pixel_values
        with mixed_precision(self._device):
            features = self._model.get_image_embeddings(pixels)
        return [
            _Embedded([scale[number : number + 1] for scale in features], (image.shape[0], image.shape[1]))
            for number, image in enumerate(images)
        ]

    @torch.inference_mode()
    def _prompt(self, embedded: _Embedded, boxes: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        prompts = self._processor(
            input_boxes=[boxes.tolist()], original_sizes=[list(embedded.size)], return_tensors="pt"
        ).input_boxes
        with mixed_precision(self._device):
            output = self._model(
                input_boxes=prompts.to(self._device),
                image_embeddings=embedded.features,
                multimask_output=False,
            )
        # logits [1, N, 1, h, w]; enlarged as float32, as Meta does
        masks = self._processor.post_process_masks([output.pred_masks[0].float()], [list(embedded.size)])[0]
        return masks[:, 0], output.iou_scores[0, :, 0]


def load_sam2_hf(config: SegmenterConfig) -> Any:
    """The `transformers.Sam2Model` of `config.checkpoint`, on `config.device`, in eval mode, as float32.

    A local folder (config.json and safetensors) or a hub id. Published folders also hold the weights of
    the video model, which are left out; any other key that is missing or too many is an error. Raises
    FileNotFoundError without weights, ValueError with weights that do not fit.
    """
    from transformers import Sam2Model

    found = find_checkpoint(config, native=False)
    if isinstance(found, Path) and not (found / "config.json").is_file():
        raise missing_checkpoint(config, False, f"no config.json in {found}")
    try:
        model, seen = Sam2Model.from_pretrained(
            found, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise missing_checkpoint(config, False, f"{found} cannot be loaded ({reason})") from error
    except RuntimeError as error:  # shapes that differ
        raise ValueError(f"the weights in {found} do not fit its config.json: {error}") from error
    wrong = {kind: sorted(keys) for kind in ("missing_keys", "unexpected_keys") if (keys := seen[kind])}
    if wrong:
        raise ValueError(f"the weights in {found} are not those of SAM 2.1: {wrong}")
    return model.eval().to(pick_device(config.device))

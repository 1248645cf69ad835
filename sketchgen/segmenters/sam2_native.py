"""SAM 2.1 through the sam2 package: images are embedded once, then prompted with all their boxes."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchgen.device import pick_device
from sketchgen.instance import Instance, Mask
from sketchgen.segmenter import SegmenterConfig
from sketchgen.segmenters.sam2_common import (
    RELEASES,
    find_checkpoint,
    missing_checkpoint,
    mixed_precision,
    segment_with_embeddings,
)


class Sam2Segmenter:
    """Prompts a model of `build_sam2` with boxes; scores are its predicted IoU."""

    def __init__(self, model: Any, config: SegmenterConfig) -> None:
        """model: a `sam2.modeling.sam2_base.SAM2Base`; config: its `batch`, `images` and `compile` count."""
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        # Filling holes and removing sprinkles needs sam2's CUDA extension, which often fails to build;
        # without it every call warns and skips them. They stay off, so results are the same with and without.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="`torch.jit.script`", category=FutureWarning)
            self._predictor = SAM2ImagePredictor(model, max_hole_area=0.0, max_sprinkle_area=0.0)
        # the predictor has the feature sizes of 1024 px images built in
        side = model.image_size
        self._predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
        self._config = config
        if config.compile:
            model.image_encoder.compile()

    def segment(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> list[list[Mask]]:
        """See `sketchgen.segmenter.Segmenter`."""
        return segment_with_embeddings(images, instances, self._config, self._embed, self._prompt)

    def _embed(self, images: Sequence[NDArray[np.uint8]]) -> Sequence[int]:
        """Give the predictor the images, whose embeddings it keeps itself; their numbers."""
        with mixed_precision(self._predictor.device):
            self._predictor.set_image_batch(list(images))
        return range(len(images))

    def _prompt(self, number: int, boxes: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        # `_predict` and not `predict_batch`: that one returns full-size float masks on the host, in another
        # number of dimensions for one box than for several. The package is pinned to this version,
        # and its own mask generator calls it from outside too.
        predictor = self._predictor
        corners = predictor._transforms.transform_boxes(
            torch.as_tensor(boxes, device=predictor.device), normalize=True, orig_hw=predictor._orig_hw[number]
        )
        with mixed_precision(predictor.device):
            masks, scores, _ = predictor._predict(None, None, corners, multimask_output=False, img_idx=number)
        return masks[:, 0], scores[:, 0]


def load_sam2(config: SegmenterConfig) -> Any:
    """The model of `config.size` with the weights of `config.checkpoint`, on `config.device`, in eval mode.

    The checkpoint is in Meta's layout, `{"model": state dict}` in a .pt file, and must fit exactly. Raises
    ValueError without the sam2 package or with weights that do not fit, FileNotFoundError without weights.
    """
    try:
        from sam2.build_sam import build_sam2
    except ImportError as error:
        raise ValueError(
            f"segmenter sam2 needs the sam2 package ({error}): "
            "SAM2_BUILD_CUDA=0 pip install --no-build-isolation 'sketchlm[sam2]', "
            "or set --segmenter.name sam2-hf"
        ) from error

    path = _fetch(config)
    model = build_sam2(RELEASES[config.size].config, ckpt_path=None, device="cpu")
    load_native_weights(model, path)
    return model.to(pick_device(config.device))


def load_native_weights(model: nn.Module, path: Path) -> None:
    """Load `{"model": state dict}` into the model; ValueError if it is unreadable or does not fit exactly."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
        model.load_state_dict(weights, strict=True)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise ValueError(
            f"{path} is not a native SAM 2.1 checkpoint of this size ({' '.join(lines[:3]).strip()}): "
            "set --segmenter.size to the size of the file, or fetch the file again"
        ) from error


def _fetch(config: SegmenterConfig) -> Path:
    """The local .pt file, downloaded into the hub's cache where needed (HF_HUB_OFFLINE is honoured)."""
    found = find_checkpoint(config, native=True)
    if isinstance(found, Path):
        if found.is_dir():
            raise ValueError(f"{found} is a folder: segmenter sam2 takes a .pt file, sam2-hf takes folders")
        return found
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    file = RELEASES[config.size].file
    try:
        return Path(hf_hub_download(found, file))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise missing_checkpoint(config, True, f"{file} of {found} is neither cached nor reachable") from error

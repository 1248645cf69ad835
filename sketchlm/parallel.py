"""Several processes: how the model is spread over them, and what they tell each other.

Accelerate knows how this process was launched (alone, torchrun, `accelerate launch`, Ray Train), and does DDP
and DeepSpeed. FSDP is torch's own `fully_shard`: Accelerate takes none on CPUs, where the tests run, and so
the same lines run there and on GPUs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from sketchlm.model import unwrap

if TYPE_CHECKING:
    from sketchlm.training import TrainConfig


def build_accelerator(config: TrainConfig) -> Any:
    """Accelerate, as launched.

    Raises ValueError for a device, sharding or tracker that cannot be used.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedDataParallelKwargs

    check_parallel(config)
    check_trackers(config.trackers)
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # else Accelerate sets it, and warns
    if PartialState(cpu=_on_cpu(config)).num_processes < 2 and config.sharding == "fsdp":
        raise ValueError(
            "sharding fsdp needs several processes, this is one: start with `torchrun --nproc-per-node 2 -m ...`, or "
            "take --sharding none"
        )
    AcceleratorState._reset_state()  # a Trainer that ran in this process before leaves its precision behind
    return Accelerator(
        cpu=_on_cpu(config),
        mixed_precision="no",  # autocast is ours, see Course: the same with and without wrappers
        log_with=list(config.trackers) or None,
        project_dir=config.out,
        gradient_accumulation_steps=1,
        deepspeed_plugin=_zero(config) if config.sharding == "zero2" else None,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
    )


def leave() -> None:
    """Part from the other processes, at the end of the program."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check_parallel(config: TrainConfig) -> None:
    """Raise ValueError for a device or sharding that this machine or this recipe cannot have."""
    gpu = torch.cuda.is_available()
    if config.device not in ("", "cpu", "cuda"):
        raise ValueError(f"device is {config.device!r}; take cpu, cuda, or nothing for the best there is")
    if config.device == "cuda" and not gpu:
        raise ValueError("device is cuda, but torch sees no GPU here: take --device cpu, or look at nvidia-smi")
    if config.sharding != "none" and config.optimizer.name == "muon":
        raise ValueError(
            f"sharding {config.sharding} cannot go with optimizer muon, which needs each matrix whole: "
            "take --optimizer.name adamw, or --sharding none"
        )
    if config.sharding == "zero2" and (_on_cpu(config) or not find_spec("deepspeed")):
        lacks = "a GPU" if _on_cpu(config) else "the package deepspeed (pip install deepspeed)"
        raise ValueError(f"sharding zero2 needs {lacks}; --sharding fsdp does without")
    if config.sharding == "fsdp" and config.model.four_bit:
        raise ValueError("sharding fsdp cannot split 4-bit weights: take --sharding none, each GPU holds them all")


def check_trackers(names: Sequence[str]) -> None:
    """Raise ValueError for a tracker that Accelerate does not know or that is not installed."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    there = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    for name in names:
        if name not in known:
            raise ValueError(f"trackers: {name!r} is none; known are {', '.join(known)}")
        if name not in there:
            raise ValueError(f"trackers: {name} is not installed here (pip install {name}), or leave it out")


def _on_cpu(config: TrainConfig) -> bool:
    return config.device == "cpu" or not torch.cuda.is_available()


def _zero(config: TrainConfig) -> Any:
    """DeepSpeed's ZeRO 2: gradients and optimizer states spread. Untested until a GPU has run it."""
    from accelerate import DeepSpeedPlugin

    return DeepSpeedPlugin(
        hf_ds_config={
            "zero_optimization": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True},
            "train_micro_batch_size_per_gpu": 1,  # it wants a number; ours is the loader's business
            "gradient_accumulation_steps": config.accumulation,
            "gradient_clipping": config.optimizer.clip,
            "zero_allow_untested_optimizer": True,
        }
    )


def spread(objective: nn.Module, optimizers: list[Any], config: TrainConfig, accelerator: Any) -> tuple[Any, list[Any]]:
    """The objective to call (on its device, inside DDP or DeepSpeed where there are several processes),
    and its optimizers. What `shard` has split stays as it is.
    """
    if config.sharding == "zero2":
        engine, *wrapped = accelerator.prepare(objective, *optimizers)
        return engine, wrapped
    if isinstance(objective, FSDPModule):
        return objective, optimizers
    return accelerator.prepare_model(objective), optimizers


def shard(objective: Any, accelerator: Any) -> None:
    """Split every weight over all processes (FSDP), in place; a layer is whole only while it is used.

    The optimizer must be built afterwards.
    """
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    llava = unwrap(objective.model)
    layers = [module for name, module in llava.named_modules() if re.search(r"\.layers\.\d+$", name)]
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(objective, mesh=mesh)


@contextmanager
def accumulating(objective: Any, accelerator: Any, last: bool) -> Iterator[None]:
    """Around the forward and backward of one batch; gradients are exchanged in the last one of a step only."""
    if isinstance(objective, FSDPModule):
        objective.set_requires_gradient_sync(last)
        yield
        return
    accelerator.sync_gradients = last  # DeepSpeed takes its step by this
    with nullcontext() if last else accelerator.no_sync(objective):
        yield


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor that may be split over processes; all of them must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """The tensor on the parameter's device, split as the parameter is."""
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
    return tensor.to(parameter.device)


def of_all(value: Any, accelerator: Any) -> list[Any]:
    """One value of each process, in order of rank."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    return list(gather_object([value]))


def of_first(value: Any, accelerator: Any) -> Any:
    """The value that the first process has."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]

"""The captioners and refiners, and the way to build one."""

from __future__ import annotations

from typing import Any

from sketchgen.captioner import Captioner, CaptionerConfig


def build_captioner(config: CaptionerConfig, schema: dict[str, Any], sees: bool = True) -> Captioner:
    """The model that `config` names. schema: JSON schema of its answers; sees: whether it is shown pictures.

    Raises FileNotFoundError with the remedy without weights, ValueError for a model that cannot do it.
    """
    if config.backend == "server":
        from sketchgen.captioners.server import ServerCaptioner

        return ServerCaptioner(config, schema)
    from sketchgen.captioners.hf import HfCaptioner

    return HfCaptioner(config, sees)


def check_reach(config: CaptionerConfig, name: str) -> None:
    """Ask a server whether it is there and knows the model, and look for the folder or hub id of any other, before any
    work.

    name: of the field, for messages. Raises ValueError or FileNotFoundError with the remedy.
    """
    if config.backend == "server":
        from sketchgen.captioners.server import check_server

        check_server(config, name)
    else:
        from sketchgen.captioners.hf import check_hf

        check_hf(config)

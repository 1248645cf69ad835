"""Imported once by the server that forks the processes of tests/sketchlm/runs.py."""

from __future__ import annotations

import accelerate
import peft
import torch
from transformers import LlavaForConditionalGeneration

import sketchlm.loop
import tests.sketchlm.runs

__all__ = ["LlavaForConditionalGeneration", "accelerate", "peft", "sketchlm", "tests"]
torch.set_num_threads(1)

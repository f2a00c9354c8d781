"""Vectors from a model in ONNX format, by onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from apxm.errors import EmbedderError
from apxm.memory.embed.local import LocalEmbedder

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from apxm.memory.embed.folder import ModelFolder
    from apxm.memory.embed.local import Forward, Ids

FILES = ("model.onnx", "onnx/model.onnx")
CUDA = "CUDAExecutionProvider"
_INPUTS = frozenset(("input_ids", "attention_mask", "token_type_ids"))
_HIDDEN = ("last_hidden_state", "token_embeddings")
_ERRORS_ONLY = 3


class OnnxEmbedder(LocalEmbedder):
    """A model from `model.onnx` or `onnx/model.onnx` of a folder; on a GPU when the installed onnxruntime has CUDA."""

    kind = "onnx"
    extra = "onnx"

    def _weights(self, folder: ModelFolder) -> list[Path]:
        model = folder.file(*FILES)
        return sorted(model.parent.glob(f"{model.name}*"))  # large weights lie beside it: model.onnx_data, model.onnx.data

    def _forward(self, folder: ModelFolder) -> Forward:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        model = folder.file(*FILES)
        providers = [name for name in (CUDA, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
        try:
            session = onnxruntime.InferenceSession(str(model), options, providers=providers)
        except Exception as error:  # onnxruntime has a class of its own for every kind of failure
            raise EmbedderError(f"{model} cannot be loaded: {error!s:.200}") from error
        inputs = {given.name for given in session.get_inputs()}
        if "input_ids" not in inputs or not inputs <= _INPUTS:
            raise EmbedderError(f"{model} asks for {', '.join(sorted(inputs))}, expected {', '.join(sorted(_INPUTS))}")
        outputs = [given.name for given in session.get_outputs()]
        output = next((name for name in _HIDDEN if name in outputs), outputs[0])

        def forward(ids: Ids, mask: Ids) -> NDArray[Any]:
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (hidden,) = session.run([output], {name: given[name] for name in inputs})
            return _pooled(hidden.astype(np.float32), mask, folder)

        return forward


def _pooled(hidden: NDArray[np.float32], mask: Ids, folder: ModelFolder) -> NDArray[Any]:
    if hidden.ndim == 2:  # the model did it itself
        return hidden
    if folder.pooling == "cls":
        return hidden[:, 0]
    counted = mask[:, :, None].astype(np.float32)
    means: NDArray[Any] = (hidden * counted).sum(axis=1) / counted.sum(axis=1)
    return means

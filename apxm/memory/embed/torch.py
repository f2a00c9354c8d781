"""Vectors from a model that PyTorch runs, on a GPU when there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apxm.errors import EmbedderError
from apxm.memory.embed.local import BATCH, LocalEmbedder

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray

    from apxm.memory.embed.folder import ModelFolder
    from apxm.memory.embed.local import Forward, Ids

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_UNUSED = "pooler."  # a layer that some models save and no embedding needs


class TorchEmbedder(LocalEmbedder):
    """A model from `model.safetensors` of a folder, by transformers. Nothing of the folder is run: no pickle, no code.

    `device` is one that PyTorch knows, `cuda:1`; None is `cuda` when there is a GPU, else `cpu`.
    """

    kind = "torch"
    extra = "torch"

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str | None = None,
        *,
        query_prefix: str | None = None,
        text_prefix: str | None = None,
        batch: int = BATCH,
    ) -> None:
        super().__init__(path, query_prefix=query_prefix, text_prefix=text_prefix, batch=batch)
        self._device = device

    def _weights(self, folder: ModelFolder) -> list[Path]:
        folder.file(*WEIGHTS)
        return sorted(folder.path.glob("*.safetensors"))

    def _forward(self, folder: ModelFolder) -> Forward:
        import torch

        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = _loaded(folder)
        try:
            model = model.float().eval().to(device)
        except (RuntimeError, AssertionError) as error:
            raise EmbedderError(f"PyTorch cannot use the device {device!r}: {error!s:.200}", hint="cpu, cuda, cuda:1") from error

        def forward(ids: Ids, mask: Ids) -> NDArray[Any]:
            with torch.inference_mode():
                counted = torch.from_numpy(mask).to(device)
                hidden = model(input_ids=torch.from_numpy(ids).to(device), attention_mask=counted).last_hidden_state
                if folder.pooling == "cls":
                    pooled = hidden[:, 0]
                else:
                    weights = counted.unsqueeze(-1).to(hidden.dtype)
                    pooled = (hidden * weights).sum(1) / weights.sum(1)
                found: NDArray[Any] = pooled.cpu().numpy()
                return found

        return forward


def _loaded(folder: ModelFolder) -> Any:
    """The model with all of its weights; EmbedderError when some are missing, which transformers would fill by chance."""
    import transformers

    talk: Any = transformers.utils.logging
    verbosity, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity_error()
    talk.disable_progress_bar()
    try:
        model, report = transformers.AutoModel.from_pretrained(
            str(folder.path), local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # whatever a library of models raises
        raise EmbedderError(f"the model in {folder.path} cannot be loaded: {error!s:.300}") from error
    finally:
        talk.set_verbosity(verbosity)
        if bars:
            talk.enable_progress_bar()
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_UNUSED))
    if missing:
        raise EmbedderError(f"the model in {folder.path} lacks {len(missing)} of its weights: {', '.join(missing[:3])}")
    return model

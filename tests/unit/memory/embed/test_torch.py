import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from apxm.errors import EmbedderError
from apxm.memory.embed.onnx import OnnxEmbedder
from apxm.memory.embed.torch import TorchEmbedder
from tests.unit.memory.embed.models import WORDS, write_json, write_tokenizer

for package in ("torch", "transformers", "tokenizers"):  # found, not imported: that takes seconds
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed (the extra `torch`)", allow_module_level=True)

TEXTS = ["the cat sat on the mat", "a", "a dog and a bird " * 9, "a cat", "unheard words"]
SIZE = 32


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with weights from a seed."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=SIZE,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = BertModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> Path:
    """One to change."""
    return Path(shutil.copytree(bert, tmp_path / "bert"))


def export(folder: Path) -> None:
    """The same model as `model.onnx`."""
    import torch
    from transformers import BertModel

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = BertModel.from_pretrained(folder, add_pooling_layer=False, local_files_only=True).eval()

        def forward(self, ids, mask):
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    names = ["input_ids", "attention_mask", "last_hidden_state"]
    ones = torch.ones(2, 5, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this way of exporting needs no further package, and is called old
        torch.onnx.export(
            Hidden(),
            (ones, ones),
            str(folder / "model.onnx"),
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names},
            dynamo=False,
        )


def test_vectors_do_not_depend_on_the_order_or_the_company_of_the_texts(bert: Path) -> None:
    embedder = TorchEmbedder(bert, batch=2)
    found = embedder.embed(TEXTS)
    assert (found.dtype, found.shape) == (np.float32, (5, SIZE))
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0)
    assert np.allclose(found, [embedder.embed_query(text) for text in TEXTS], atol=1e-6)
    assert np.allclose(found[::-1], TorchEmbedder(bert).embed(TEXTS[::-1]), atol=1e-6)
    assert np.linalg.norm(found[0] - found[3]) > 0.01
    assert embedder.embed([]).shape == (0, SIZE)
    assert not embedder.embed(["", "cat"])[0].any()
    assert (embedder.fingerprint.name, embedder.fingerprint.dimension) == ("torch", SIZE)


def test_torch_and_onnx_give_the_same_vectors(model: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    export(model)
    for mode in ("pooling_mode_mean_tokens", "pooling_mode_cls_token"):
        write_json(model / "1_Pooling" / "config.json", {mode: True})
        by_onnx, by_torch = OnnxEmbedder(model), TorchEmbedder(model)
        assert np.abs(by_onnx.embed(TEXTS) - by_torch.embed(TEXTS)).max() < 1e-4
        assert by_onnx.fingerprint != by_torch.fingerprint


def test_the_fingerprint_is_that_of_the_weights_wherever_they_lie(bert: Path, model: Path) -> None:
    first = TorchEmbedder(bert).fingerprint
    assert TorchEmbedder(model).fingerprint == first
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(data)
    assert TorchEmbedder(model).fingerprint != first


def test_without_a_gpu_the_processor_is_taken_and_a_device_may_be_named(bert: Path) -> None:
    import torch

    expected = TorchEmbedder(bert, "cpu").embed(TEXTS)
    assert np.allclose(TorchEmbedder(bert).embed(TEXTS), expected, atol=1e-3)  # on the GPU, where there is one
    if not torch.cuda.is_available():
        with pytest.raises(EmbedderError, match="PyTorch cannot use the device 'cuda:0'"):
            TorchEmbedder(bert, "cuda:0").embed(["cat"])
    with pytest.raises(EmbedderError, match="cannot use the device 'toaster'"):
        TorchEmbedder(bert, "toaster").embed(["cat"])


def test_a_pickle_is_never_read(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(EmbedderError, match=r"has no model\.safetensors"):
        TorchEmbedder(model).embed(["cat"])


def test_code_of_a_folder_is_never_run(model: Path) -> None:
    ran = model / "ran"
    (model / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nfrom transformers import BertConfig as C, BertModel as M\n")
    config = json.loads((model / "config.json").read_text())
    auto = {"AutoConfig": "evil.C", "AutoModel": "evil.M"}
    write_json(model / "config.json", {**config, "model_type": "unheard", "auto_map": auto})
    with pytest.raises(EmbedderError, match="cannot be loaded"):
        TorchEmbedder(model).embed(["cat"])
    write_json(model / "config.json", {**config, "auto_map": auto})
    assert TorchEmbedder(model).embed(["cat"]).any()  # a model that transformers has by itself
    assert not ran.exists()


def test_weights_that_are_damaged_or_of_another_model_are_refused(model: Path) -> None:
    from safetensors.numpy import load_file, save_file

    file = model / "model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "layer.1." not in name}, file, {"format": "pt"})
    with pytest.raises(EmbedderError, match=r"lacks \d+ of its weights: encoder"):
        TorchEmbedder(model).embed(["cat"])
    for content in (b"", b"\x00" * 100, file.read_bytes()[:1000]):
        file.write_bytes(content)
        with pytest.raises(EmbedderError, match="cannot be loaded"):
            TorchEmbedder(model).embed(["cat"])

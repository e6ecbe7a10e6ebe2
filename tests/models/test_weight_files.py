"""Files of weights that other programs wrote, with tiny networks: what is taken, what is left, and what is refused."""

from __future__ import annotations

import argparse
import logging
import pickle
import shlex
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from safetensors.torch import save, save_file
from torch import Tensor, nn

from fer_lightning.errors import CheckpointError
from fer_lightning.models.weight_files import read_weight_file, recorded_backbone, tensor_groups
from fer_lightning.models.weights import load_weights
from fer_lightning.runs.checkpoint import check_checkpoint

Weights = dict[str, Tensor]


class Net(nn.Module):
    """A backbone of two layers with batch norm."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3))


class Classifier(Net):
    """The same as other programs have it: with a classification layer."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc = nn.Linear(6, classes)


def weights_of(network: nn.Module, value: float = 0.5) -> Weights:
    """Return a state dict of constants."""
    return OrderedDict(
        (name, torch.full_like(tensor, value) if tensor.is_floating_point() else tensor)
        for name, tensor in network.state_dict().items()
    )


def prefixed(weights: Weights, prefix: str) -> Weights:
    return {f"{prefix}{name}": value for name, value in weights.items()}


def write(content: Any, path: Path, **options: Any) -> str:
    torch.save(content, path, **options)
    return str(path)


def value_of(backbone: nn.Module) -> float:
    """Return the value that all weights have."""
    values: set[float] = {value for tensor in backbone.parameters() for value in tensor.detach().flatten().tolist()}
    assert len(values) == 1
    return values.pop()


def taken(path: str, caplog: pytest.LogCaptureFixture) -> str:
    """Load a file, see that all weights are its, and return what is said of it."""
    backbone = Net()
    with caplog.at_level(logging.INFO):
        load_weights(backbone, path)
    assert value_of(backbone) == 0.5
    (line,) = (record.getMessage() for record in caplog.records if "tensors taken" in record.getMessage())
    return line


def refusal(path: Path | str, backbone: nn.Module | None = None) -> str:
    """Return why a file is refused: one line, without escape codes, after which the network is as before."""
    network = Net() if backbone is None else backbone
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, str(path))
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("weights: ")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    return message


WRAPPERS: dict[str, Callable[[Weights], dict[str, Any]]] = {
    "nothing": lambda weights: dict(weights),
    "model_state_dict": lambda weights: {
        "epoch": 3,
        "model_state_dict": weights,
        "optimizer_state_dict": {"state": {}},
    },
    "state_dict": lambda weights: {"arch": "net", "state_dict": weights, "best_acc1": torch.tensor(0.5)},
    "model": lambda weights: {"model": weights, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    "net": lambda weights: {"net": weights, "acc": 71.2, "epoch": 9},
    "ema alone": lambda weights: {"ema": weights, "updates": 100},
    "ema shadow": lambda weights: {"ema": {"shadow": weights, "decay": 0.9}},
    "module in module": lambda weights: {"checkpoint": {"weights": {"student": weights}}},
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "model.",
        "backbone.",
        "encoder.",
        "module._orig_mod.model.",
        "net.0.",
        "timm_model.",
    ],
)
def test_wrappers_and_prefixes(
    wrap: Callable[[Weights], dict[str, Any]], prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(wrap(prefixed(weights_of(Classifier()), prefix)), tmp_path / "w.pth")
    line = taken(path, caplog)
    assert f"{path}: 10 of 10 tensors taken" in line
    assert f"left out: {prefix}fc.weight 10x6, {prefix}fc.bias 10" in line
    assert ("without the prefix" in line) == bool(prefix.replace("_orig_mod.", ""))


def test_names_of_compiled_and_sharded_layers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = weights_of(Net())
    wrapped = {name.replace("layer1.", "layer1._orig_mod.").replace("bn1.", "bn1._fsdp_wrapped_module."): value
               for name, value in weights.items()}  # fmt: skip
    assert taken(
        write({"n_averaged": torch.tensor(3), **prefixed(wrapped, "module.")}, tmp_path / "w"), caplog
    ).endswith("10 of 10 tensors taken without the prefix 'module.'; left out: n_averaged number")


@pytest.mark.parametrize("key", ["model_ema", "state_dict_ema", "ema", "ema_state_dict"])
def test_averaged_weights_are_preferred(key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    usual = "state_dict" if key == "state_dict_ema" else "model"
    content = {usual: weights_of(Net(), 0.1), key: weights_of(Net(), 0.5)}
    assert f"tensors taken from '{key}'" in taken(write(content, tmp_path / "w.pth"), caplog)


def test_averaged_weights_of_another_network_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {"model_ema": weights_of(nn.Linear(3, 3), 0.1), "model": weights_of(Net(), 0.5)}
    assert "from 'model'" in taken(write(content, tmp_path / "w.pth"), caplog)


def test_the_weights_of_the_run_come_before_what_is_stored_beside_them(tmp_path: Path, caplog: Any) -> None:
    content = {"current_model_state": weights_of(Net(), 0.1), "state_dict": weights_of(Net(), 0.5)}
    assert "from 'state_dict'" in taken(write(content, tmp_path / "w.ckpt"), caplog)


def test_other_parts_are_left_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    others = {"head.0.weight": torch.ones(7, 6), "head.0.bias": torch.ones(7), "criterion.margin": torch.ones(1)}
    content = {**prefixed(weights_of(Net()), "backbone."), **others, "last": torch.ones(2)}
    line = taken(write(content, tmp_path / "w.pth"), caplog)
    assert line.endswith("left out: head.0.weight 7x6, head.0.bias 7, criterion.margin 1, ... (4 in all)")


def test_what_programs_store_beside_the_weights_is_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts: defaultdict[str, int] = defaultdict(int)
    counts["steps"] = 3
    content = {
        "state_dict": weights_of(Classifier(7)),
        "args": argparse.Namespace(lr=0.1, arch="resnet18", path=Path("x")),
        "best": np.float64(0.7),
        "hyper_parameters": AttributeDict(lr=0.1),
        "pytorch-lightning_version": "1.4.0",
        "counts": counts,
        "kind": complex,
    }
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pth.tar"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        assert "10 of 10 tensors taken from 'state_dict'" in taken(str(path), caplog)
        caplog.clear()


def test_the_content_decides_and_not_the_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file({name: value.contiguous() for name, value in weights_of(Net()).items()}, tmp_path / "w.pth")
    assert "10 of 10 tensors taken" in taken(str(tmp_path / "w.pth"), caplog)
    caplog.clear()
    assert "10 of 10 tensors taken" in taken(write(weights_of(Net()), tmp_path / "w.safetensors"), caplog)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_a_file_of_weights(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = weights_of(Net())
    if name.endswith("bin"):
        torch.save(weights, tmp_path / name)
    else:
        save_file({key: value.contiguous() for key, value in weights.items()}, tmp_path / name)
    assert name in taken(str(tmp_path), caplog)


def test_other_folders_name_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert refusal(tmp_path).endswith("give a file")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert f"--model.backbone hf:{tmp_path}" in refusal(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    write(weights_of(Net()), tmp_path / "epoch_3.pth")
    proposed = shlex.split(refusal(tmp_path))
    assert proposed[-2] == "--model.weights"
    taken(proposed[-1], caplog)
    (tmp_path / "checkpoints").mkdir()
    write({"state_dict": weights_of(Net())}, tmp_path / "checkpoints" / "best.ckpt")
    assert refusal(tmp_path).endswith("checkpoints/best.ckpt")


def test_a_larger_and_a_smaller_network_do_not_fit(tmp_path: Path) -> None:
    larger = Net()
    larger.layer1.append(nn.Conv2d(6, 6, 3))
    message = refusal(write(weights_of(larger), tmp_path / "w.pth"))
    assert "10 of its 10 tensors fit; not of this network 2, such as layer1.3.weight" in message
    message = refusal(write(weights_of(Net()), tmp_path / "w.pth"), larger)
    assert "10 of its 12 tensors fit; missing 2, such as layer1.3.weight" in message


def test_a_layer_of_another_shape(tmp_path: Path) -> None:
    wide = Net()
    wide.layer1[0] = nn.Conv2d(4, 6, 5)
    message = refusal(write({"net": prefixed(weights_of(wide), "module.")}, tmp_path / "w.pth"))
    assert (
        "9 of its 10 tensors fit; of another shape 1, such as layer1.0.weight (expected 6x4x3x3, found 6x4x5x5)"
        in message
    )


@pytest.mark.parametrize(
    ("beside", "cure"),
    [
        ({}, "--model.backbone NAME"),
        ({"arch": "resnet18"}, "--model.backbone resnet18"),
        ({"fer_config": {"model": {"backbone": "fer_b"}}}, "--model.backbone fer_b"),
    ],
)
def test_another_network_is_named_if_the_file_says_it(beside: dict[str, Any], cure: str, tmp_path: Path) -> None:
    content = {"state_dict": {"embeddings.cls_token": torch.ones(1, 1, 4)}, **beside}
    message = refusal(write(content, tmp_path / "w.pth"))
    assert "none of its 10 tensors is in the file" in message
    assert "expected names such as conv1.weight, found embeddings.cls_token" in message
    assert message.endswith(cure)


def test_a_folder_of_transformers_is_named_as_a_backbone(tmp_path: Path) -> None:
    save_file({"resnet.embedder.weight": torch.ones(4)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    assert refusal(tmp_path).endswith(f"--model.backbone hf:{tmp_path}")
    (tmp_path / "model.safetensors").unlink()
    write({"resnet.embedder.weight": torch.ones(4)}, tmp_path / "pytorch_model.bin")
    assert refusal(tmp_path).endswith("--model.backbone NAME")  # hf:PATH reads safetensors only


def test_a_whole_network_is_refused_and_its_weights_can_be_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = Net()
    network.load_state_dict(weights_of(network))
    for content in (network, {"epoch": 3, "model": network}):
        message = refusal(write(content, tmp_path / "w.pth"))
        assert "is a whole pickled network (tests.models.test_weight_files.Net)" in message
        assert "reading it may run code" in message
        exec(message.rpartition("that made it: ")[2], {"torch": torch})
        taken("weights.pth", caplog)
        caplog.clear()
        Path("weights.pth").unlink()


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("it_ran", "w"))


class Worse:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return (os.system, ("touch it_ran",))


def test_nothing_pickled_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.chdir(tmp_path)
    taken(write({"model": weights_of(Net()), "extra": Harmful()}, tmp_path / "w.pth"), caplog)
    assert "may run code" in refusal(write({"model": weights_of(Net()), "extra": Worse()}, tmp_path / "w.pth"))
    assert "may run code" in refusal(write(Harmful(), tmp_path / "w.pth"))
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Harmful(), protocol=2))
    assert "may run code" in refusal(tmp_path / "old.pth")
    assert not (tmp_path / "it_ran").exists()


def zipped(cut: int = 0, flip: int = 0) -> bytes:
    import io

    out = io.BytesIO()
    torch.save({"model": {"conv1.weight": torch.full((50, 50), 0.5)}}, out)
    content = bytearray(out.getvalue())
    if flip:
        content[content.index(torch.full((4,), 0.5).numpy().tobytes()) + 8] ^= flip
    return bytes(content[: len(content) - cut] if cut else content)


HTML = b"\n<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
SAFE = save({"conv1.weight": torch.ones(40, 40)})


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.ckpt", "weights"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty: copy or download it again"),
        (HTML, "is a web page, so the download has failed"),
        (POINTER, "is the pointer of git-lfs and not the file itself: run `git lfs pull`"),
        (b"\x1f\x8b\x08 packed", "is a packed archive: unpack it"),
        (zipped(cut=200), "is cut off, its end is missing: copy or download it again"),
        (zipped(flip=1), "is damaged, the checksum of 'archive/data/0' does not match: copy or download it again"),
        (SAFE[:-100], "is a damaged or cut off safetensors file: copy or download it again"),
        (SAFE[:20], "is a damaged or cut off safetensors file: copy or download it again"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80", "is damaged or cut off: copy or download it again"),
        (b'Entry not found', "is a text, 'Entry not found', and holds no weights: if it was downloaded"),
        (b'{"message": "Not Found",\n "status": 404}', "is a text, '{\"message\""),
        (b"\x89HDF\r\n\x1a\n and more", "is neither a safetensors file nor one of torch.save"),
        (b"\x1b[31mtext\x1b[0m", "is neither a safetensors file nor one of torch.save"),
    ],
)  # fmt: skip
def test_damaged_and_other_files(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert reason in refusal(tmp_path / name)


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (HTML, "web page"), (POINTER, "git lfs pull")])
def test_a_checkpoint_to_go_on_from_is_looked_at_likewise(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        check_checkpoint(tmp_path / "x.ckpt")


def test_an_archive_around_the_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("w.pth", b"x")
    assert "is a zip archive: unpack it" in refusal(tmp_path / "w.zip")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_refused_and_its_weights_can_be_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.jit.trace(nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2)).save("w.pt")  # type: ignore[no-untyped-call]  # not typed
    message = refusal("w.pt")
    assert "is a TorchScript program; save its weights alone: python -c" in message
    exec(shlex.split(message)[-1], {})
    assert set(read_weight_file(Path("weights.pth"))) == {"0.weight", "0.bias"}


@pytest.mark.parametrize(("content", "kind"), [([torch.ones(2)], "list"), (torch.ones(2), "Tensor")])
def test_other_values_than_mappings(content: Any, kind: str, tmp_path: Path) -> None:
    assert f"holds a {kind} and no tensors by name" in refusal(write(content, tmp_path / "w.pth"))


def test_reading_leaves_no_class_allowed(tmp_path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    read_weight_file(Path(write({"w": torch.ones(1), "args": argparse.Namespace(a=1)}, tmp_path / "w.pth")))
    assert torch.serialization.get_safe_globals() == before


def test_the_safetensors_of_a_folder_come_before_what_runs_code(tmp_path: Path, caplog: Any) -> None:
    torch.save(weights_of(Net(), 0.1), tmp_path / "pytorch_model.bin")
    save_file({key: value.contiguous() for key, value in weights_of(Net()).items()}, tmp_path / "model.safetensors")
    assert "model.safetensors: 10 of 10" in taken(str(tmp_path), caplog)


def test_who_wrote_a_file_is_said_by_ours_then_by_timm_then_by_the_folder(tmp_path: Path) -> None:
    path, other = tmp_path / "model.safetensors", tmp_path / "weights.safetensors"
    ours, arch = {"fer_config": {"model": {"backbone": "fer_b"}}}, {"arch": "resnet18"}
    assert recorded_backbone(path, {**arch, **ours}) == "fer_b"
    described = {"fer_config": {"model": {"backbone": {"class_path": "mine.Net"}}}}
    assert recorded_backbone(path, {**arch, **described}) == "resnet18"
    assert recorded_backbone(path, described) == recorded_backbone(path, {}) == ""
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')  # timm's, which has no type of model
    assert recorded_backbone(path, {}) == ""
    (tmp_path / "config.json").write_text("[]")
    assert recorded_backbone(path, {}) == ""
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert (recorded_backbone(path, {}), recorded_backbone(other, {})) == (f"hf:{tmp_path}", "")


def test_tensors_are_found_up_to_three_dictionaries_deep() -> None:
    one = {"w": torch.ones(1), "epoch": 3, 7: torch.ones(1)}
    content = {"a": {"b": {"c": {"d": one, **one}, **one}}, "x": {"y": "z"}, **one}
    found = dict(tensor_groups(content))
    assert list(found) == ["", "a.b", "a.b.c"]
    assert all(list(tensors) == ["w"] for tensors in found.values())


@pytest.mark.parametrize("name", ["head", "heads", "fc", "classifier", "last_linear", "logits"])
def test_a_classification_layer_is_left_out_under_each_of_its_names(name: str, tmp_path: Path, caplog: Any) -> None:
    backbone = Net()
    setattr(backbone, name, nn.Identity())  # as networks without it have one
    content = {**weights_of(Net()), f"{name}.weight": torch.ones(7, 6), f"{name}.bias": torch.ones(7)}
    with caplog.at_level(logging.INFO):
        load_weights(backbone, write(content, tmp_path / "w.pth"))
    assert value_of(backbone) == 0.5
    [line] = [line for line in caplog.messages if "tensors taken" in line]
    assert line.endswith(f"10 of 10 tensors taken; left out: {name}.weight 7x6, {name}.bias 7")


def test_wrappers_of_single_layers_are_removed_wherever_they_stand(tmp_path: Path, caplog: Any) -> None:
    for wrapper in ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"):
        caplog.clear()
        wrapped = {name.replace("layer1.", f"layer1.{wrapper}."): value for name, value in weights_of(Net()).items()}
        assert taken(write(wrapped, tmp_path / "w.pth"), caplog).endswith("10 of 10 tensors taken")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "network"])
def test_the_usual_names_come_before_others_and_the_better_fit_before_both(
    key: str, tmp_path: Path, caplog: Any
) -> None:
    content = {"anything": weights_of(Net(), 0.1), key: weights_of(Net())}
    assert f"from '{key}'" in taken(write(content, tmp_path / "w.pth"), caplog)
    caplog.clear()
    broken = {name: value for name, value in weights_of(Net(), 0.1).items() if name != "conv1.weight"}
    content = {key: broken, "ema": broken, "anything": weights_of(Net())}
    assert "from 'anything'" in taken(write(content, tmp_path / "w.pth"), caplog)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (3, 5), (2, 6), (4, 4), (6, 4)])
def test_gray_looks_to_the_first_convolution_as_before(before: int, after: int, tmp_path: Path) -> None:
    trained, backbone = Net(before), Net(after)
    load_weights(backbone, write(trained.state_dict(), tmp_path / "w.pth"))
    gray = torch.rand(2, 1, 8, 8)
    expected = trained.conv1(gray.expand(-1, before, -1, -1))
    if before % after and after % before:  # channels that do not go into each other keep their size on the whole
        assert backbone.conv1.weight.shape[1] == after
        kept = trained.conv1.weight.repeat(1, 3, 1, 1)[:, :after] * before / after
        torch.testing.assert_close(backbone.conv1.weight, kept)
    else:
        torch.testing.assert_close(backbone.conv1(gray.expand(-1, after, -1, -1)), expected)
    assert torch.equal(backbone.state_dict()["layer1.0.weight"], trained.state_dict()["layer1.0.weight"])


def test_three_of_the_tensors_that_are_left_are_named(tmp_path: Path, caplog: Any) -> None:
    for count, end in ((3, "x0 1, x1 1, x2 1"), (4, "x0 1, x1 1, x2 1, ... (4 in all)")):
        caplog.clear()
        others = {f"x{place}": torch.ones(1) for place in range(count)}
        assert taken(write({**weights_of(Net()), **others}, tmp_path / "w.pth"), caplog).endswith(f"left out: {end}")


def test_counters_of_batches_may_be_missing(tmp_path: Path, caplog: Any) -> None:
    weights = {name: value for name, value in weights_of(Net()).items() if not name.endswith("num_batches_tracked")}
    assert taken(write(weights, tmp_path / "w.pth"), caplog).endswith("9 of 10 tensors taken")

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.models.classifier import EmotionClassifier
from fer_lightning.models.distillation import Distillation, Teachers, change_preprocessing, distillation_loss
from fer_lightning.types import Preprocessing
from tests.helpers.cli import QUICK, fer, fit, weights

NAMES = ("angry", "happy", "sad")


def preprocessing(size: int = 8, channels: int = 1, mean: float = 0.5, std: float = 0.25) -> Preprocessing:
    return {
        "image_size": size, "channels": channels, "mean": [mean] * channels, "std": [std] * channels,
        "interpolation": "bilinear",
    }  # fmt: skip


class Fixed:
    """A teacher that always says the same."""

    def __init__(self, logits: list[float], names: tuple[str, ...] = NAMES) -> None:
        self.class_names = names
        self.preprocessing = preprocessing()
        head = nn.Linear(64, len(names))
        nn.init.zeros_(head.weight)
        head.bias.data = torch.tensor(logits)
        self.classifier = EmotionClassifier(nn.Flatten(), head, len(names))
        self.classifier.set_shift(torch.arange(len(names)))  # a teacher's own decision is no part of what it teaches


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_that_of_the_paper() -> None:
    student = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    teacher = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    temperature = 4.0
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    expected = (p * (p / q).log()).sum(1).mean() * temperature**2
    torch.testing.assert_close(distillation_loss(student, p, temperature), expected)
    assert float(distillation_loss(teacher, p, temperature)) == pytest.approx(0, abs=1e-6)


def test_probabilities_of_several_teachers_are_averaged() -> None:
    first, second = Fixed([4.0, 0.0, 0.0]), Fixed([0.0, 0.0, 8.0])
    found = Teachers([first, second], NAMES).probabilities(images(), preprocessing(), 2.0)
    expected = (torch.tensor([2.0, 0, 0]).softmax(0) + torch.tensor([0, 0, 4.0]).softmax(0)) / 2
    torch.testing.assert_close(found, expected.expand(2, 3))


def test_classes_are_matched_by_name() -> None:
    teacher = Fixed([1.0, 2.0, 3.0], ("sad", "angry", "happy"))
    found = Teachers([teacher], NAMES).probabilities(images(), preprocessing(), 1.0)
    torch.testing.assert_close(found[0], torch.tensor([2.0, 3.0, 1.0]).softmax(0))


@pytest.mark.parametrize("names", [("angry", "happy"), ("angry", "happy", "fear")])
def test_other_classes_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="knows the classes angry, happy.*the data has angry, happy, sad"):
        Teachers([Fixed([0.0] * len(names), names)], NAMES)


def test_no_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match="the list of teachers is empty"):
        Teachers([], NAMES)


def test_a_teacher_is_not_trained_and_not_copied() -> None:
    teacher = Fixed([1.0, 2.0, 3.0])
    teacher.classifier.train()
    teachers = Teachers([teacher], NAMES)
    assert not teacher.classifier.training
    assert not any(parameter.requires_grad for parameter in teacher.classifier.parameters())
    assert not teachers.probabilities(images().requires_grad_(), preprocessing(), 1.0).requires_grad
    assert copy.deepcopy(teachers) is teachers


def test_images_are_converted_to_what_the_teacher_knows() -> None:
    plain = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    given, wanted = preprocessing(), preprocessing(12, 3, 0.3, 0.2)
    found = change_preprocessing((plain - 0.5) / 0.25, given, wanted)
    resized = F.interpolate(plain, (12, 12), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(found, ((resized - 0.3) / 0.2).expand(-1, 3, -1, -1))
    back = change_preprocessing((plain.expand(-1, 3, -1, -1) - 0.3) / 0.2, preprocessing(8, 3, 0.3, 0.2), given)
    torch.testing.assert_close(back, (plain - 0.5) / 0.25)
    smaller = torch.rand(2, 1, 6, 6)
    assert change_preprocessing(smaller, given, given).shape == (2, 1, 8, 8)  # a batch of a smaller size
    assert change_preprocessing(plain, given, given) is plain


def test_one_difference_is_enough_to_convert_images() -> None:
    images = torch.rand(2, 1, 8, 8)  # normalised by mean 0.5 and deviation 0.25
    for wanted, expected in (
        (preprocessing(std=0.5), images / 2),
        (preprocessing(mean=0.25), images + 1),
        (preprocessing(channels=3), images.expand(-1, 3, -1, -1)),
    ):
        torch.testing.assert_close(change_preprocessing(images, preprocessing(), wanted), expected)


def test_the_two_losses_are_mixed_by_weight() -> None:
    distillation = Distillation("somewhere", 0.25, 2.0)
    with pytest.raises(ConfigError, match="has not been loaded"):
        distillation.mixed(torch.tensor(1.0), torch.zeros(2, 3), images(), preprocessing())
    distillation.teachers = Teachers([Fixed([1.0, 0.0, 0.0])], NAMES)
    logits = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    learned = distillation_loss(logits, torch.tensor([0.5, 0.0, 0.0]).softmax(0).expand(2, 3), 2.0)
    found = distillation.mixed(torch.tensor(3.0), logits, images(), preprocessing())
    torch.testing.assert_close(found, 0.75 * torch.tensor(3.0) + 0.25 * learned)


@pytest.mark.parametrize(
    ("weight", "temperature", "message"),
    [
        (0.0, 4.0, "model.teacher_weight must be above 0 and at most 1, not 0"),
        (1.5, 4.0, "model.teacher_weight must be above 0 and at most 1, not 1.5"),
        (0.5, 0.0, "model.temperature must be above 0, not 0"),
        (0.5, float("inf"), "model.temperature must be above 0, not inf"),
    ],
)
def test_numbers_outside_their_ranges(weight: float, temperature: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Distillation("somewhere", weight, temperature)


def read(path: Path) -> Any:
    raise ConfigError("of another kind")


def test_teachers_may_have_all_the_say() -> None:
    assert Distillation("somewhere", 1.0, 4.0).weight == 1.0


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "some.ckpt")
    for path, message in (
        (tmp_path / "none.ckpt", "none.ckpt' does not exist; expected a checkpoint or the folder of a finished run"),
        (tmp_path, "holds no checkpoints/best.ckpt"),
        (tmp_path / "some.ckpt", "some.ckpt': of another kind"),
    ):
        with pytest.raises(CheckpointError, match=message):
            Teachers.load([str(path)], read, NAMES)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("teacher")
    assert fit(root, name="teacher", epochs=1) == 0
    return root / "teacher" / "version_0"


def test_a_student_of_another_size_learns_from_a_run_folder(tmp_path: Path, teacher: Path) -> None:
    options = [f"--model.teacher={teacher}", "--model.teacher_weight=1", "--data.mix=BatchMix"]
    options += ["--data.image_size=24", "--trainer.precision=bf16-mixed"]
    ema = ["--trainer.callbacks=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]
    assert fit(tmp_path, *options, *ema, name="student", epochs=1) == 0
    checkpoint = tmp_path / "student/version_0/checkpoints/best.ckpt"
    assert fit(tmp_path, "--data.image_size=24", name="alone", epochs=1) == 0
    alone = weights(tmp_path / "alone/version_0/checkpoints/best.ckpt")
    learned = weights(checkpoint)
    assert learned.keys() == alone.keys()  # nothing of the teacher's
    assert not torch.equal(learned["classifier.head.fc.weight"], alone["classifier.head.fc.weight"])
    assert fer("test", f"--ckpt_path={checkpoint}", *QUICK) == 0


def test_a_student_of_one_teacher_as_of_itself_twice(tmp_path: Path, teacher: Path) -> None:
    file = teacher / "checkpoints/best.ckpt"
    assert fit(tmp_path, f"--model.teacher={teacher}", name="once", epochs=1) == 0
    assert fit(tmp_path, f"--model.teacher=[{file},{file}]", name="twice", epochs=1) == 0
    first, second = (weights(tmp_path / name / "version_0/checkpoints/best.ckpt") for name in ("once", "twice"))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], msg=name)


def test_wrong_teachers_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.ckpt").write_text("no checkpoint")
    for path, message in (
        ("x.ckpt", "x.ckpt is a text, 'no checkpoint', and holds no weights"),
        ("y.ckpt", "does not exist"),
    ):
        assert fit(tmp_path, f"--model.teacher={tmp_path / path}") == 2
        told = capsys.readouterr().err.splitlines()
        assert message in told[-1]
    assert not list(tmp_path.glob("tiny/*"))

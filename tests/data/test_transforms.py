from __future__ import annotations

import hashlib
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from jsonargparse._common import parsing_settings
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fer_lightning.data.batches.transforms import PRESETS, SampleTransform, named_transform, quiet_threads
from fer_lightning.errors import ConfigError
from fer_lightning.randomness import draw_keys

NAMED = [name for name, transforms in PRESETS.items() if transforms is not None]
HERE = "tests.data.test_transforms"
ALWAYS = [
    {"class_path": "Affine", "init_args": {"rotate": [-30, 30], "scale": [0.8, 1.2], "p": 1.0}},
    {"class_path": "GaussNoise", "init_args": {"p": 1.0}},
]  # draws that differ give pictures that differ


def spec(name: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": init_args}


def picture(size: int = 48, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, channels), dtype=np.uint8)
    return np.ascontiguousarray(cv2.blur(noise, (5, 5)).reshape(size, size, channels))


def preset(name: str) -> SampleTransform:
    transform = named_transform(name)
    assert transform is not None
    return transform


class Scaled(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations ships no types
    """A user's own transform; without probability it is not random."""

    def __init__(self, factor: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.factor = factor

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[Any]:
        return (img * self.factor).astype(np.uint8)


class Floated(Scaled):
    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[Any]:
        return (img * self.factor).astype(np.float32)


class OpenCVNoise(Scaled):
    """Draws from OpenCV's own generator, which no pipeline holds."""

    def apply(self, img: NDArray[np.uint8], **params: Any) -> NDArray[Any]:
        return np.asarray(cv2.randu(img.copy(), np.zeros(1), np.full(1, 256.0)))


@pytest.fixture
def allow_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parsing_settings, "import_path_verdicts", {"*": False, "tests": True, "albumentations": True})
    monkeypatch.setitem(parsing_settings, "import_paths_enforced", True)


# presets


def test_presets_are_known_by_name() -> None:
    assert list(PRESETS) == ["none", "light", "strong", "thesis_initial", "thesis_enhanced"]
    assert named_transform("none") is None


def test_unknown_preset_names_all_and_the_nearest() -> None:
    message = (
        r"no transform preset 'thesis_inital' \(did you mean 'thesis_initial'\?\); there are none, light, strong, "
    )
    with pytest.raises(ConfigError, match=message):
        named_transform("thesis_inital")


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize(("size", "channels"), [(48, 1), (48, 3), (65, 1), (65, 3)])
def test_presets_keep_size_channels_and_type(name: str, size: int, channels: int) -> None:
    transform = preset(name)
    transform.check(channels, size)
    before = picture(size, channels)
    before.flags.writeable = False  # a transform that wrote to its input would raise
    changed = [transform(before, key) for key in range(40)]
    assert {(one.shape, one.dtype) for one in changed} == {((size, size, channels), np.dtype(np.uint8))}
    assert sum(not np.array_equal(one, before) for one in changed) > 20


# The parameters as they were published; ... stands for the default of albumentations, where the report is silent.
THESIS: dict[str, list[tuple[type, dict[str, Any]]]] = {
    "thesis_initial": [
        (A.Rotate, {"limit": (-45, 45), "p": 0.6}),
        (A.HorizontalFlip, {"p": 0.6}),
        (A.CoarseDropout, {"p": 0.3, "num_holes_range": ..., "hole_height_range": ..., "hole_width_range": ...}),
        (A.RandomBrightnessContrast, {"p": ..., "brightness_limit": ..., "contrast_limit": ...}),
    ],
    "thesis_enhanced": [
        (A.Rotate, {"limit": (-20, 20), "p": 0.5}),
        (A.HorizontalFlip, {"p": 0.5}),
        (
            A.Affine,
            {
                "scale": {"x": (0.95, 1.05), "y": (0.95, 1.05)},
                "translate_percent": {"x": (-0.05, 0.05), "y": (-0.05, 0.05)},
                "rotate": (-10, 10),
                "shear": ...,
                "p": 0.3,
            },
        ),
        (
            A.ColorJitter,
            {"brightness": (0.8, 1.2), "contrast": (0.8, 1.2), "saturation": (0.8, 1.2), "hue": (-0.1, 0.1), "p": 0.3},
        ),
        (A.CoarseDropout, {"p": 0.2, "num_holes_range": ..., "hole_height_range": ..., "hole_width_range": ...}),
        (A.RandomBrightnessContrast, {"p": 0.3, "brightness_limit": ..., "contrast_limit": ...}),
        (A.GaussianBlur, {"blur_limit": (3, 7), "p": 0.1}),
    ],
}


@pytest.mark.parametrize("name", list(THESIS))
def test_thesis_presets_have_the_published_parameters(name: str) -> None:
    built = preset(name).pipeline.transforms
    assert [type(one) for one in built] == [kind for kind, _ in THESIS[name]]
    for one, (kind, expected) in zip(built, THESIS[name], strict=True):
        default = kind()
        for argument, value in expected.items():
            wanted = getattr(default, argument) if value is ... else value
            assert getattr(one, argument) == wanted, f"{kind.__name__}.{argument}"


def test_light_is_as_documented() -> None:
    flip, rotate, relight = preset("light").pipeline.transforms
    assert (type(flip), flip.p) == (A.HorizontalFlip, 0.5)
    assert (type(rotate), rotate.limit, rotate.p) == (A.Rotate, (-10, 10), 0.5)
    assert (type(relight), relight.p) == (A.RandomBrightnessContrast, 0.3)
    assert relight.brightness_limit == relight.contrast_limit == (-0.2, 0.2)


def test_strong_is_as_documented() -> None:
    flip, affine, relight, light, blur, holes = preset("strong").pipeline.transforms
    assert (type(flip), flip.p) == (A.HorizontalFlip, 0.5)
    assert (type(affine), affine.p, affine.rotate, affine.keep_ratio) == (A.Affine, 0.8, (-20, 20), True)
    assert affine.scale == {"x": (0.85, 1.15), "y": (0.85, 1.15)}
    assert affine.translate_percent == {"x": (-0.1, 0.1), "y": (-0.1, 0.1)}
    assert affine.border_mode == cv2.BORDER_REPLICATE
    assert (type(relight), relight.p) == (A.RandomBrightnessContrast, 0.5)
    assert relight.brightness_limit == relight.contrast_limit == (-0.2, 0.2)
    assert (type(light), light.p, type(blur), blur.p) == (A.OneOf, 0.3, A.OneOf, 0.3)
    gamma, clahe = light.transforms
    assert (type(gamma), gamma.gamma_limit, gamma.p) == (A.RandomGamma, (70, 140), 1.0)
    assert (type(clahe), clahe.clip_limit, clahe.tile_grid_size, clahe.p) == (A.CLAHE, (1.0, 3.0), (4, 4), 1.0)
    soft, noisy = blur.transforms
    assert (type(soft), soft.blur_limit, soft.sigma_limit, soft.p) == (A.GaussianBlur, (3, 5), (0.3, 1.2), 1.0)
    assert (type(noisy), noisy.std_range, noisy.p) == (A.GaussNoise, (0.02, 0.08), 1.0)
    assert (type(holes), holes.p, holes.num_holes_range) == (A.CoarseDropout, 0.3, (1, 3))
    assert holes.hole_height_range == holes.hole_width_range == (0.1, 0.25)


# the draws


@pytest.mark.parametrize("name", NAMED)
def test_a_draw_is_a_function_of_its_key_alone(name: str) -> None:
    first, second = preset(name), preset(name)
    forward = [first(picture(), key) for key in range(30)]
    random.seed(1)
    np.random.seed(1)  # the global state must not matter
    cv2.setRNGSeed(1)
    backward = [second(picture(), key) for key in reversed(range(30))][::-1]
    assert all(np.array_equal(*pair) for pair in zip(forward, backward, strict=True))
    assert len({one.tobytes() for one in forward}) > 15


def test_keys_that_differ_in_sign_or_in_the_highest_bits_give_other_draws() -> None:
    transform = SampleTransform(ALWAYS)
    keys = [0, 1, -1, 2**62, 2**62 + 1, -(2**63), 2**63 - 1, 2**32, 2**32 + 1]
    assert len({transform(picture(), key).tobytes() for key in keys}) == len(keys)


def test_opencvs_own_generator_follows_the_key_too() -> None:
    objects: list[Any] = [OpenCVNoise(factor=1)]
    transform = SampleTransform(objects)
    draws = [transform(picture(), key).tobytes() for key in (1, 2, 1)]
    assert draws[0] == draws[2] != draws[1]


NESTED = [
    spec(
        "OneOf",
        transforms=[
            spec("Sequential", transforms=[spec("Affine", rotate=[-30, 30], p=1.0), spec("GaussNoise")], p=1.0),
            spec("SomeOf", n=2, transforms=[spec("RandomGamma"), spec("Affine", scale=[0.7, 1.3]), spec("GaussNoise")]),
        ],
        p=1.0,
    ),
    spec("albumentations.Compose", transforms=[spec("albumentations.RandomOrder", n=1, transforms=[spec("CLAHE")])]),
    spec("OneOrOther", first=spec("Affine", shear=[-9, 9], p=1.0), second=spec("Affine", rotate=[-9, 9], p=1.0)),
]


def leaves(transform: Any) -> list[Any]:
    children = getattr(transform, "transforms", [])
    return [transform, *(leaf for child in children for leaf in leaves(child))]


def test_groups_in_groups_are_built_and_share_one_pair_of_generators() -> None:
    transform = SampleTransform(NESTED)
    everything = leaves(transform.pipeline)
    assert [type(one).__name__ for one in everything][:4] == ["Compose", "OneOf", "Sequential", "Affine"]
    assert len(everything) == 15
    assert len({id(one.random_generator) for one in everything}) == 1
    assert len({id(one.py_random) for one in everything}) == 1
    transform.check(1, 48)
    again = pickle.loads(pickle.dumps(transform))
    forward = [transform(picture(), key).tobytes() for key in range(40)]
    assert len(set(forward)) == 40
    assert [again(picture(), key).tobytes() for key in reversed(range(40))][::-1] == forward


@pytest.mark.filterwarnings("ignore::UserWarning")  # advice on single transforms
def test_every_transform_of_the_library_that_does_pictures_repeats_its_draw() -> None:
    done = 0
    for name in sorted(A.core.serialization.SERIALIZABLE_REGISTRY):
        try:
            first, second = (SampleTransform([spec(name.rpartition(".")[2], p=1.0)]) for _ in range(2))
            first.check(3, 32)
        except ConfigError:
            continue  # it needs arguments, or something other than a picture
        forward = [first(picture(32), key) for key in range(4)]
        backward = [second(picture(32), key) for key in reversed(range(4))][::-1]
        assert all(np.array_equal(*pair) for pair in zip(forward, backward, strict=True)), name
        done += 1
    assert done > 70


class Draws(Dataset[Tensor]):
    """The same picture over and over, so that only the draws differ; the keys are those of an epoch."""

    def __init__(self, transform: SampleTransform, epoch: int, count: int = 24) -> None:
        self.transform = transform
        self.keys = draw_keys(7, epoch, np.arange(count)).tolist()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, slot: int) -> Tensor:
        return torch.from_numpy(self.transform(picture(), self.keys[slot]).copy())


def drawn(transform: SampleTransform, workers: int, context: str | None = None) -> list[bytes]:
    return [
        image.numpy().tobytes()
        for epoch in range(2)
        for batch in DataLoader(
            Draws(transform, epoch),
            batch_size=4,
            num_workers=workers,
            multiprocessing_context=context,
            worker_init_fn=quiet_threads,
        )
        for image in batch
    ]


def test_draws_differ_between_samples_workers_and_epochs_and_repeat_with_the_seed() -> None:
    alone = drawn(SampleTransform(ALWAYS), workers=0)
    assert len(set(alone)) == len(alone) == 48
    for workers in (0, 1, 2):
        assert drawn(SampleTransform(ALWAYS), workers) == alone
    used = SampleTransform(ALWAYS)
    used(picture(), 99)
    assert drawn(used, workers=2) == alone


@pytest.mark.slow
def test_spawned_loader_processes_draw_the_same() -> None:
    transform = preset("strong")
    assert drawn(transform, workers=2, context="spawn") == drawn(transform, workers=0)


def test_a_fresh_process_draws_the_same_and_imports_albumentations_only_then(tmp_path: Path) -> None:
    transform = preset("strong")
    pickled = tmp_path / "transform"
    pickled.write_bytes(pickle.dumps((transform, picture())))
    program = (
        "import hashlib, os, pickle, sys\n"
        "import cv2, fer_lightning.data.batches.transforms\n"
        "assert 'albumentations' not in sys.modules\n"
        "transform, picture = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'\n"
        "assert cv2.getNumThreads() == 1\n"
        "print(hashlib.sha256(b''.join(transform(picture, key).tobytes() for key in range(20))).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(pickled)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    here = hashlib.sha256(b"".join(transform(picture(), key).tobytes() for key in range(20)))
    assert done.stdout.strip() == here.hexdigest()


def test_opencv_is_quiet_where_a_pipeline_is_built() -> None:
    cv2.setNumThreads(3)
    assert cv2.getNumThreads() == 3
    SampleTransform(ALWAYS)
    assert cv2.getNumThreads() == 1
    assert not cv2.ocl.useOpenCL()


# specifications


def test_objects_and_specifications_mean_the_same() -> None:
    flip = A.HorizontalFlip(p=0.5)
    shear = A.Affine(shear=(-20, 20), p=0.9)
    objects: list[Any] = [flip, {"class_path": "OneOf", "init_args": {"transforms": [shear], "p": 1.0}}]
    given = SampleTransform(objects)
    other = SampleTransform([A.SomeOf([flip, shear])])  # must not share generators with the first
    other(picture(), 5)
    named = SampleTransform(
        [spec("HorizontalFlip", p=0.5), spec("OneOf", transforms=[spec("Affine", shear=[-20, 20], p=0.9)], p=1.0)]
    )
    for key in range(10):
        assert np.array_equal(given(picture(), key), named(picture(), key))


@pytest.mark.usefixtures("allow_tests")
def test_own_classes_come_by_path() -> None:
    transform = SampleTransform([spec(f"{HERE}.Scaled", factor=0.5)])
    assert np.array_equal(transform(picture(), 0), (picture() * 0.5).astype(np.uint8))
    deep = SampleTransform([spec("albumentations.augmentations.geometric.transforms.Affine", rotate=[-5, 5])])
    assert isinstance(deep.pipeline.transforms[0], A.Affine)
    with pytest.raises(ConfigError, match=r"transforms\[0\] \(Scaled\): there is no argument 'facto' .*'factor'"):
        SampleTransform([spec(f"{HERE}.Scaled", facto=0.5)])
    with pytest.raises(ConfigError, match=r"transforms\[0\] \(Floated\) makes float32 \(32, 32, 3\) of"):
        SampleTransform([spec(f"{HERE}.Floated", factor=0.5)]).check(3, 32)
    with pytest.raises(ConfigError, match="'os.system': Importing 'os.system' is not allowed"):
        SampleTransform([spec("os.system", command="true")])
    with pytest.raises(ConfigError, match=f"'{HERE}.spec' is not|cannot import '{HERE}.spec'"):
        SampleTransform([spec(f"{HERE}.spec")])
    with pytest.raises(ConfigError, match=f"'{HERE}.Draws' is not a transform"):
        SampleTransform([spec(f"{HERE}.Draws")])


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([], "transforms must be a list .* that is not empty"),
        ("light", "transforms must be a list"),
        (["HorizontalFlip"], r"transforms\[0\] must be \{class_path: .*not 'HorizontalFlip'"),
        ([{"HorizontalFlip": {"p": 1}}], r"transforms\[0\] must be"),
        ([{"class_path": "Rotate", "p": 1}], r"transforms\[0\] takes class_path and init_args, not p"),
        (
            [{"class_path": "Rotate", "init_args": [1]}],
            r"transforms\[0\] \(Rotate\): init_args must be names and values",
        ),
        (
            [spec("HorizontalFlip"), spec("Rotat")],
            r"transforms\[1\]: .* no transform 'Rotat' \(did you mean 'Rotate'\?\)",
        ),
        ([spec("horizontalflip")], "did you mean 'HorizontalFlip'"),
        ([spec("albumentations.Afine")], "no transform 'Afine' .did you mean 'Affine'"),
        ([spec("albumentations.augmentations.Afine")], "cannot import .*did you mean 'Affine'"),
        ([spec("ImageOnlyTransform")], "'ImageOnlyTransform' is not a transform"),
        ([spec("BboxParams")], "'BboxParams' is not a transform"),
        (
            [spec("Rotate", limmit=3)],
            r"\(Rotate\): there is no argument 'limmit' .did you mean 'limit'.*it takes limit,",
        ),
        ([spec("HorizontalFlip", q=1)], r"\(HorizontalFlip\): there is no argument 'q'; it takes p"),
        ([A.HorizontalFlip(p=1), spec("Rotate", limit="a")], r"transforms\[1\] \(Rotate\): limit: .*not 'a'"),
        ([spec("HorizontalFlip", p=2)], r"\(HorizontalFlip\): p: .* less than or equal to 1, not 2"),
        ([spec("Resize", height=3)], r"\(Resize\): width: Field required"),
        ([spec("OneOf")], r"\(OneOf\): .*transforms"),
        ([spec("OneOf", transforms=[])], r"\(OneOf\): transforms is empty"),
        ([spec("OneOf", transforms=[spec("CLAHE")], p=2)], r"\(OneOf\): p must be in 0..1, not 2"),
        ([spec("OneOf", transforms=spec("CLAHE"))], r"\(OneOf\): .*single transform"),
        ([spec("SomeOf", n=3, transforms=[spec("CLAHE")])], r"\(SomeOf\): `n` is greater"),
        (
            [spec("OneOf", transforms=[spec("CLAHE"), spec("Sequential", transforms=[spec("CLAHE", clip=1)])])],
            r"\(OneOf\)\.transforms\[1\] \(Sequential\)\.transforms\[0\] \(CLAHE\): .*'clip' .*'clip_limit'",
        ),
        ([spec("Normalize")], "Normalize has no place here: .*on the device"),
        ([spec("OneOf", transforms=[spec("ToTensorV2")])], r"\(OneOf\).transforms\[0\]: ToTensorV2 has no place here"),
        ([A.Sequential([A.ToFloat()])], r"transforms\[0\].transforms\[0\]: ToFloat has no place here"),
        ([A.ReplayCompose([A.HorizontalFlip()])], "ReplayCompose has no place here"),
    ],
)
def test_bad_specifications_are_named(transforms: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SampleTransform(transforms)


def test_objects_made_with_unknown_arguments_are_refused() -> None:
    with pytest.warns(UserWarning, match="limmit"):
        rotate = A.Rotate(limmit=3)
    with pytest.raises(ConfigError, match=r"\.transforms\[0\] \(Rotate\): there is no argument 'limmit'.*'limit'"):
        SampleTransform([A.OneOf([rotate])])


def test_a_name_that_is_only_advised_against_is_taken() -> None:
    with pytest.warns(UserWarning, match="special case of Affine"):
        transform = SampleTransform([spec("ShiftScaleRotate", p=1.0)])
    assert isinstance(transform.pipeline.transforms[0], A.ShiftScaleRotate)


def test_the_parser_leaves_specifications_to_us() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SampleTransform, "transform")
    parsed = parser.parse_object({"transform": {"transforms": NESTED}})
    assert parsed.transform.transforms == NESTED
    built = parser.instantiate(parsed).transform
    assert len(leaves(built.pipeline)) == 15
    typo = [spec("albumentations.OneOf", transforms=[spec("albumentations.Affine", rotat=3)])]
    with pytest.raises(ConfigError, match=r"\(Affine\): there is no argument 'rotat'"):
        parser.instantiate(parser.parse_object({"transform": {"transforms": typo}}))


# gray pictures and the check


def test_colour_changes_leave_gray_pictures_alone() -> None:
    colour = SampleTransform([spec("ColorJitter", brightness=[1, 1], contrast=[1, 1], saturation=0.9, hue=0.5, p=1.0)])
    colour.check(1, 48)
    gray = picture(channels=1)
    assert all(np.array_equal(colour(gray, key), gray) for key in range(10))
    assert not np.array_equal(colour(picture(), 0), picture())


@pytest.mark.parametrize(
    ("transforms", "channels", "message"),
    [
        ([spec("ISONoise", p=0.001)], 1, r"transforms\[0\] \(ISONoise\) cannot do .*64x64 with 1 channel"),
        (
            [
                spec("HorizontalFlip"),
                spec("SomeOf", n=1, transforms=[spec("CLAHE"), spec("RandomFog", p=0.001)], p=0.001),
            ],
            1,
            r"transforms\[1\].transforms\[1\] \(RandomFog\) cannot do .*1 channel",
        ),
        ([spec("ToRGB", p=1.0)], 1, r"\(ToRGB\) makes uint8 \(64, 64, 3\)"),
        ([spec("RandomCrop", height=80, width=80)], 3, r"\(RandomCrop\) cannot do uint8 pictures of 64x64"),
        (
            [spec("RandomCrop", height=50, width=40, p=0.01), spec("HorizontalFlip")],
            3,
            r"transforms\[0\] \(RandomCrop\) makes pictures of 40x50, not 64x64.*Resize\(height=64, width=64\)",
        ),
        (
            [spec("RandomCrop", height=50, width=40, p=1.0), spec("Resize", height=64, width=64, p=0.5)],
            3,
            r"transforms\[0\] \(RandomCrop\), transforms\[1\] \(Resize\) make pictures of 40x50, .*when chance",
        ),
        ([spec("MaskDropout", p=0.1)], 3, r"\(MaskDropout\) cannot do .*mask"),
    ],
)
def test_check_names_what_cannot_be_done(transforms: list[dict[str, Any]], channels: int, message: str) -> None:
    transform = SampleTransform(transforms)
    with pytest.raises(ConfigError, match=message):
        transform.check(channels, 64)


def test_what_only_colour_pictures_can_do_passes_with_them() -> None:
    SampleTransform([spec("ISONoise", p=0.001)]).check(3, 64)


def test_a_crop_that_is_undone_passes_and_check_changes_no_draw() -> None:
    transform = SampleTransform(
        [
            spec(
                "OneOf", transforms=[spec("RandomCrop", height=40, width=40), spec("CenterCrop", height=50, width=50)]
            ),
            spec("Resize", height=64, width=64, p=1.0),
        ]
    )
    before = transform(picture(64), 3)
    transform.check(3, 64)
    assert np.array_equal(transform(picture(64), 3), before)


def test_an_unchecked_change_of_size_stops_at_the_first_picture() -> None:
    transform = SampleTransform([spec("Resize", height=20, width=30, p=1.0)])
    with pytest.raises(ConfigError, match=r"made uint8 \(20, 30, 3\) of a picture uint8 \(48, 48, 3\) \(key 4\)"):
        transform(picture(), 4)

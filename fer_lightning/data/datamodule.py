"""The base of all data modules: one road from a scan to batches on the device."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from fer_lightning.data.batches.augment import BatchAugment
from fer_lightning.data.batches.dataset import TableDataset, as_it_is, quiet_worker, spare_cores
from fer_lightning.data.batches.device_steps import DeviceSteps
from fer_lightning.data.batches.mixing import BatchMix
from fer_lightning.data.batches.options import channel_values, check_numbers
from fer_lightning.data.batches.sampling import EpochSampler, QuotaSampler, ResumableLoader
from fer_lightning.data.batches.transforms import SampleTransform, named_transform
from fer_lightning.data.splitting.balance import draws_per_class, parse_balance
from fer_lightning.data.splitting.group_balance import GroupBalance, GroupBalanceKind
from fer_lightning.data.splitting.row_plan import RowPlan
from fer_lightning.data.splitting.splits import check_splits
from fer_lightning.data.table.images import is_in_memory
from fer_lightning.data.table.samples import FOCUS, SPLITS, SamplesTable
from fer_lightning.data.table.soft_labels import Role, declared, with_soft_labels
from fer_lightning.data.table.summary import table_summary
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.preprocessing import input_in_words
from fer_lightning.types import Batch, Interpolation, Preprocessing

__all__ = ["EmotionDataModule"]

_LOG = logging.getLogger(__name__)
_EVAL_PIXELS = 2_000_000  # in a batch: the largest activation of VGG16, 64 channels at full size, then takes 512 MB


class EmotionDataModule(LightningDataModule):
    """Base of the data modules. A subclass gives ``scan`` and its defaults, nothing else.

    Images stay uint8 until they are on the device; there they are scaled to 0..1, brought to the network's size,
    augmented and mixed (training only), brought to its channels, and normalised.

    Args:
        batch_size: samples in a training batch, per device.
        eval_batch_size: samples in a validation, test or prediction batch, per device; ``null`` chooses: two million
            pixels or so, 16 to 512 samples.
        num_workers: loader processes; ``null`` chooses: none for images held in memory, else one for each core that is
            left, at most eight.
        image_size: side of the network's input in pixels; ``null`` keeps the native size.
        channels: 1 (gray) or 3 (RGB); the other kind is converted; ``null`` keeps the native ones.
        mean: per channel, or one value for all, of images in 0..1; ``null`` takes the data set's own.
        std: like ``mean``.
        interpolation: how images of another size are resized: ``area`` (the mean of the area that a new pixel covers;
            linear when enlarging), or ``bilinear``, with antialiasing, as networks of older versions were trained.
        transform: changes each training image on the CPU, by albumentations: ``none``, ``light``, ``strong``,
            ``thesis_initial``, ``thesis_enhanced``, or a list of transforms by class_path.
        augment: changes training batches on the device; ``null`` for none.
        mix: mixes the samples of a training batch after that (mixup, cutmix); ``null`` for none.
        balance: what an epoch draws: ``none`` (each image once), ``cap:<n>`` (at most n images of a class),
            ``oversample`` (each class as often as the largest), ``weighted`` (as many images as ever, of all classes
            equally many).
        class_multipliers: how many times as often a class is drawn, by name, such as ``{disgust: 3, fear: 2}``.
        groups: columns of the data set by which people are told apart, such as ``[gender, age_group]``.
        group_balance: what is done about groups of unequal size: ``none``, ``draws`` (the draws of each class are
            divided equally among its groups) or ``weights`` (samples are weighed in the loss so that the groups of a
            class count equally); no image counts more than four times as much as on average.
        per_class: train on a subset: so many images of each class, chosen by ``seed``.
        keep: table (CSV with a column ``path``) of the only rows to use, as ``fer data dedupe`` writes it.
        drop_overlap: leave training images out that also stand in validation or test, pixel for pixel.
        focus_fraction: share of each class's training images set apart for ``ClassFocus``, with their copies; 0: none.
        folds: cross-validation: divide the training images into so many folds, of which one is the validation split;
            ``null`` for none. A validation split of the data set's own is not used then, and none is made.
        fold: the one that is validated on, from 0.
        fold_seed: chooses which images are in which fold, whatever the seed of the run.
        allow_empty_class: train although a class has no training image.
        soft_label_role: what the data set's soft labels are for: ``target``: trained on in place of the labels;
            ``votes``: learned by the network's auxiliary head (``model.aux_weight``) beside the labels.
        soft_label_file: one or more CSV or NPZ files (see ``soft_labels``) of probabilities to train on.
        soft_label_weight: share of these probabilities in what an image is trained on; the rest is its label.
        seed: of order and augmentation; ``null`` takes that of ``seed_everything``.
        cache_dir: where parsed data sets are kept; ``null`` for the user's cache folder.
    """

    class_names: tuple[str, ...] = SEVEN.class_names
    native_size: int = 48
    native_channels: int = 1
    native_mean: tuple[float, ...] = (0.5,)
    native_std: tuple[float, ...] = (0.5,)
    near_duplicates: bool = True

    def __init__(
        self,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        image_size: int | None = None,
        channels: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        interpolation: Interpolation = "area",
        transform: str | list[dict] = "none",  # type: ignore[type-arg]  # bare: the parser must not build the specs
        augment: BatchAugment | None = None,
        mix: BatchMix | None = None,
        balance: str = "none",
        class_multipliers: dict[str, float] | None = None,
        groups: list[str] | None = None,
        group_balance: GroupBalanceKind = "none",
        per_class: int | None = None,
        keep: str | None = None,
        drop_overlap: bool = False,
        focus_fraction: float = 0.0,
        folds: int | None = None,
        fold: int = 0,
        fold_seed: int = 0,
        allow_empty_class: bool = False,
        soft_label_role: Role = "target",
        soft_label_file: str | list[str] | None = None,
        soft_label_weight: float = 1.0,
        seed: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        check_numbers(batch_size, eval_batch_size, num_workers, image_size, channels)
        self.balance = parse_balance(balance)
        self.group_balance = GroupBalance(tuple(groups or ()), group_balance)
        if group_balance == "weights" and mix is not None:
            raise ConfigError("data.group_balance weights cannot weigh mixed samples: take draws, or data.mix null")
        kept, cap = None if keep is None else Path(keep), self.balance.limit
        self.plan = RowPlan(kept, folds, fold, fold_seed, drop_overlap, cap, per_class, focus_fraction)
        self.image_size = self.native_size if image_size is None else image_size
        self.channels = self.native_channels if channels is None else channels
        self.interpolation: Interpolation = interpolation
        self.preprocessing = self._preprocessing(mean, std)
        self.batch_size = batch_size
        suited = min(512, max(16, _EVAL_PIXELS // self.image_size**2))
        self.eval_batch_size = suited if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self.transform = named_transform(transform) if isinstance(transform, str) else SampleTransform(transform)
        self.steps = DeviceSteps(self.preprocessing, augment, mix)
        self.class_multipliers = class_multipliers
        self.allow_empty_class = allow_empty_class
        self.soft_label_role: Role = soft_label_role
        self.soft_label_files = [soft_label_file] if isinstance(soft_label_file, str) else list(soft_label_file or [])
        self.soft_label_weight = soft_label_weight
        self.seed = seed
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._table: SamplesTable | None = None
        self._votes: NDArray[np.float32] | None = None
        self._draws: dict[str, int] | None = None
        self._train_sampler: EpochSampler | None = None

    def __repr__(self) -> str:
        counts = {} if self._table is None else {split: len(self._table.rows(split)) for split in SPLITS}
        splits = ", ".join(f"{split} {count:,}" for split, count in counts.items() if count) or "not read yet"
        about = f"{len(self.class_names)} classes, {input_in_words(self.preprocessing)}"
        return f"{type(self).__name__}: {splits}; {about}"

    __str__ = __repr__  # Lightning's would read the data

    def _preprocessing(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> Preprocessing:
        """Return what a network trained on this data expects of its input."""
        values = channel_values("std", std, self.native_std, self.channels)
        if min(values) <= 0:
            raise ConfigError(f"data.std must be above 0, not {values}")
        return {
            "image_size": self.image_size,
            "channels": self.channels,
            "mean": channel_values("mean", mean, self.native_mean, self.channels),
            "std": values,
            "interpolation": self.interpolation,
        }

    @property
    def split_options(self) -> dict[str, str]:
        """The options that split off training images what a data set lacks, by split: what a message proposes."""
        return {}

    def scan(self) -> SamplesTable:
        """Read the data set and return its table, splits assigned.

        Raises:
            DataError: if it is missing or malformed.
        """
        raise NotImplementedError(f"{type(self).__name__} must define scan(), which returns the samples table")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def table(self) -> SamplesTable:
        """The samples, read at the first use."""
        if self._table is None:
            table = self.scan()
            for remark in table.remarks:
                _LOG.warning("%s", remark)
            if table.class_names != tuple(self.class_names):
                raise DataError(
                    f"{type(self).__name__}: scan() gave classes {', '.join(table.class_names)}, "
                    f"class_names are {', '.join(self.class_names)}"
                )
            table = self.extended(self.plan.kept(table))
            table = self.plan.apply(
                table,
                self.fold_candidates(table),
                seed=self._run_seed(),
                near=self.near_duplicates,
                cache_dir=self.cache_dir,
            )
            role, files = self.soft_label_role, self.soft_label_files
            self._table, self._votes = with_soft_labels(table, role, files, self.soft_label_weight)
        return self._table

    def extended(self, table: SamplesTable) -> SamplesTable:
        """Return the rows that ``keep`` has left, and those that are added to them for training: none."""
        return table

    def fold_candidates(self, table: SamplesTable) -> NDArray[np.bool_]:
        """Return which rows may be held out as a fold, bool ``(N,)``: training rows that are not made of others."""
        candidates: NDArray[np.bool_] = table.splits == "train"
        return candidates & (table.columns["parent"] == "") if "parent" in table.columns else candidates

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of training samples of each class, by name."""
        return self.table.class_counts("train")

    def describe(self) -> dict[str, Any]:
        """Return what a report must say of the data: counts, fingerprints and shared images of the splits."""
        summary = table_summary(self.table)  # first: it reads the data
        further = declared(self._votes, self.soft_label_files, self.soft_label_weight)
        return {"datamodule": type(self).__name__, **summary, **further}

    def prepare_data(self) -> None:
        """Read the data set once, which fills the cache, and complain before anything of a run is written."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            self.check(str(self.trainer.state.fn.value))
        else:
            _ = self.table

    def setup(self, stage: str) -> None:
        """Read the data set (from the cache) and check that the splits of this stage hold samples."""
        self.check(stage)

    def check(self, stage: str, devices: int = 1) -> None:
        """See that the samples suffice for a stage of the trainer (``fit``, ``test``, ...) on so many devices.

        Raises:
            DataError: if a split of this stage is empty or cannot be shared out, or a class has no training sample.
            ConfigError: if the transform or what is to be drawn does not suit them.
        """
        check_splits(self.table, stage, devices, type(self).__name__, self.split_options)
        if stage == "fit" and self.transform is not None:
            self.transform.check(self.table.images.shape[1], self.table.images.shape[2])
        empty = [name for name, count in self.class_counts.items() if count == 0]
        if stage == "fit" and empty and not self.allow_empty_class:
            fewer = self.class_option()
            ways = f"pass {fewer} to train on the classes that there are, or " if fewer else ""
            raise DataError(
                f"{type(self).__name__}: no training image of {', '.join(empty)}; {ways}add some or pass "
                "--data.allow_empty_class true"
            )
        if stage == "fit":
            _ = self.draws  # refuse a wrong multiplier before anything is written
            self.group_balance.check(self.table)

    def class_option(self) -> str:
        """Return the option that leaves classes without training images out, empty if this data module has none."""
        present = [name for name, count in self.class_counts.items() if count]
        has_option = "class_names" in inspect.signature(type(self)).parameters
        return f"--data.class_names '[{', '.join(present)}]'" if has_option and len(present) > 1 else ""

    @property
    def resamples(self) -> bool:
        """Whether an epoch is something else than every training image once, by the options of this data module."""
        return self.balance.resamples or bool(self.class_multipliers)

    @property
    def draws(self) -> dict[str, int]:
        """How often each class is drawn in an epoch, by name; a ConfigError for a multiplier that cannot be."""
        if self._draws is not None:
            return self._draws
        if not self.resamples:
            return self.class_counts
        return draws_per_class(self.class_counts, self.balance, self.class_multipliers)

    def set_draws(self, draws: Mapping[str, int]) -> None:
        """Choose how often each class is drawn, by name, from the next epoch on; the sum should stay the same.

        Raises:
            ConfigError: if these are not the classes or a class without images is to be drawn.
        """
        if tuple(draws) != tuple(self.class_names):
            raise ConfigError(f"draws of {', '.join(draws)}, but the classes are {', '.join(self.class_names)}")
        self._draws = dict(draws)
        if isinstance(self._train_sampler, QuotaSampler):
            self._train_sampler.set_quotas(self._quotas()[1])

    def _quotas(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self.group_balance.quotas(self.table, self.table.rows("train"), list(self.draws.values()))

    def _run_seed(self) -> int:
        return int(os.environ.get("PL_GLOBAL_SEED", "0")) if self.seed is None else self.seed

    def _rank_and_world(self) -> tuple[int, int]:
        if self.trainer is None or self.trainer.world_size == 1:
            return 0, 1
        if self.trainer._accelerator_connector.use_distributed_sampler:
            raise ConfigError(
                "these data modules share the samples out themselves: pass --trainer.use_distributed_sampler false"
            )
        return self.trainer.global_rank, self.trainer.world_size

    def _position(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def train_dataloader(self) -> ResumableLoader:
        """Return the loader of training batches, shuffled by (seed, epoch)."""
        rank, world = self._rank_and_world()
        sampler = self._train_sampler = self._sampler(rank, world)
        return ResumableLoader(
            TableDataset(self.table, self.transform, self._votes, self.group_balance.weights(self.table)),
            sampler,
            self._position,
            batch_size=self.batch_size,
            drop_last=len(sampler) >= self.batch_size,  # a last batch of one sample would break batch norm
            **self._loader_options(self.transform is not None),
        )

    def _sampler(self, rank: int, world: int) -> EpochSampler:
        rows = self.table.rows("train")
        if self._draws is None and not self.resamples and self.group_balance.kind != "draws":
            return EpochSampler(rows, self._run_seed(), rank, world)
        return QuotaSampler(rows, *self._quotas(), self._run_seed(), rank, world)

    def _loader_options(self, transformed: bool = False) -> dict[str, Any]:
        workers = self.num_workers
        if workers is None:
            workers = 0 if is_in_memory(self.table.images) and not transformed else spare_cores()
        return {
            "num_workers": workers,
            "worker_init_fn": quiet_worker if workers else None,
            "collate_fn": as_it_is,
            "pin_memory": torch.cuda.is_available(),
        }

    def _eval_loader(self, split: str) -> DataLoader[Batch]:
        rank, world = self._rank_and_world()
        return DataLoader(
            TableDataset(self.table),
            sampler=self.table.rows(split)[rank::world].tolist(),  # no padding: no row counts twice
            batch_size=self.eval_batch_size,
            **self._loader_options(),
        )

    def val_dataloader(self) -> Any:
        """Return the loader of the validation split, in table order; in ``fit`` with that of the focus part behind."""
        validation = self._eval_loader("val")
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        return [validation, self._eval_loader(FOCUS)] if fitting and self.plan.focus_fraction else validation

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the test split, in table order."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the test split, in table order."""
        return self._eval_loader("test")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Turn uint8 images on the device into the network's input; training batches are augmented and mixed."""
        return self.steps(batch, self._progress(), self.num_classes)

    def _progress(self) -> float:
        if self.trainer is None or not self.trainer.max_epochs or self.trainer.max_epochs < 1:
            return 0.0
        return self.trainer.current_epoch / self.trainer.max_epochs

"""Measuring at the end of ``fer fit`` how faces sit in the training images, for those who use the model.

What needs OpenCV is imported when it is needed: after the training.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.text import first_line

__all__ = ["IMAGES", "keep_framing"]

IMAGES = 200
"""Training images that are looked at: some seconds."""


def keep_framing(cli: FERCLI) -> None:
    """Write ``framing.json`` into the folder of a run that has trained to its end, if it has none.

    Whatever goes wrong is said and does not fail the run: ``fer data framing --model RUN`` does it later.
    """
    from fer_lightning.inference.framing import FEWEST, FRAMING, write_framing

    trainer = cli.trainer
    folder = Path(trainer.default_root_dir)
    writes = cli.verb == "fit" and trainer.global_rank == 0 and not cli.config["trainer"]["fast_dev_run"]
    wanted = writes and not cli.stop.signum
    if not wanted or min(IMAGES, len(cli.datamodule.table.rows("train"))) < FEWEST or (folder / FRAMING).exists():
        return
    try:
        from fer_lightning.inference.faces.choice import detectors_named
        from fer_lightning.inference.measuring import measure_framings, training_sample

        start = time.perf_counter()
        sample = training_sample(cli.datamodule.table, IMAGES)
        framings, counts = measure_framings(sample, detectors_named())
        if framings:
            data = type(cli.datamodule).__name__
            write_framing(folder, framings, data=data, images=len(sample), found=counts, seed=0)
            seconds = time.perf_counter() - start
            print(
                f"framing      how faces sit in the training images: measured by {', '.join(framings)}, {seconds:.0f} s"
            )
    except Exception as error:  # an image that cannot be read, a detector's file that is damaged, a full disk
        print(
            f"fer: the framing was not measured ({first_line(error)}): fer data framing --model {folder}",
            file=sys.stderr,
        )

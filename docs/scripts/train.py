"""A training in Python, without the command line: python docs/scripts/train.py"""

import sys

from lightning.pytorch import Trainer

from fer_lightning import EmotionTask
from fer_lightning.data import SketchDataModule

data = SketchDataModule(train=int(sys.argv[1]) if len(sys.argv) > 1 else 2000, val=140, test=140, batch_size=32)
task = EmotionTask(
    backbone="fer_b_fast",
    class_names=data.class_names,
    num_classes=data.num_classes,
    preprocessing=data.preprocessing,
)
trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(task, datamodule=data)
print(trainer.validate(task, datamodule=data, verbose=False))

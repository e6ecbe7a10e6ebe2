from __future__ import annotations

from fer_lightning.cli.other_names import SHORT, VERBS

# What the options of argparse scripts, timm, Hugging Face, Ultralytics, Keras and old Lightning mean in ours.
MEANT = """
checkpoint.monitor: eval_metric metric_for_best_model
checkpoint.save_top_k: checkpoint_hist save_total_limit
ckpt_path: ckpt load_checkpoint resume resume_from_checkpoint
config: cfg
data: dataset dataset_name
data.augment BatchAugment: aa augment augmentation auto_augment
data.augment BatchAugment --data.augment.contrast: color_jitter
data.augment BatchAugment --data.augment.erasing: erasing reprob
data.augment BatchAugment --data.augment.flip: fliplr hflip
data.augment BatchAugment --data.augment.flip 0.5: horizontal_flip
data.augment BatchAugment --data.augment.rotation: degrees rotation_range
data.balance oversample: oversample
data.balance weighted: weighted_sampler
data.batch_size: b batch bs per_device_train_batch_size train_batch_size
data.channels: in_channels in_chans
data.channels 1: gray grayscale
data.channels 3: rgb
data.class_names: classes
data.eval_batch_size: per_device_eval_batch_size
data.folds: k_fold kfold n_splits num_folds
data.image_size: image_height img_height img_size imgsz input_size resolution size
data.mix BatchMix --data.mix.cutmix: cutmix
data.mix BatchMix --data.mix.mixup: mixup
data.num_workers: dataloader_num_workers j num_worker workers
data.root: csv csv_file data_dir data_folder data_path data_root image_dir img_dir train_data_dir train_dir
data.test_fraction: test_size test_split
data.val_fraction: val_size val_split validation_split
model.backbone: arch model_name model_name_or_path model_type network
model.backbone_args.drop_path_rate: drop_path
model.backbone_args.drop_rate: drop_rate
model.head MLPHead --model.head.dropout: drop dropout
model.layer_lr_decay: layer_decay
model.loss: criterion loss_fn
model.loss FocalLoss: focal use_focal_loss
model.loss WeightedCrossEntropy: class_weight class_weights loss_weights weighted_loss
model.loss.label_smoothing: label_smoothing smoothing
model.lr_scheduler: sched scheduler
model.lr_scheduler WarmupCosine: cos_lr
model.lr_scheduler WarmupCosine --model.lr_scheduler.warmup: warmup_ratio
model.lr_scheduler WarmupCosine --model.lr_scheduler.warmup 0.1: warmup_epochs warmup_steps
model.optimizer: opt optim optimizer_name
model.optimizer AdamW --model.optimizer.betas: opt_betas
model.optimizer AdamW --model.optimizer.eps: opt_eps
model.optimizer.lr: base_lr init_lr learning_rate lr lr0
model.optimizer.momentum: momentum
model.optimizer.weight_decay: wd weight_decay
model.teacher: distill knowledge_distillation
model.weights: initial_checkpoint pretrained_weights
name: exp exp_name experiment experiment_name run_name
report.pictures: plots
resume_checkpoint.every_n_steps: save_freq save_steps
resume_checkpoint.keep_every_n_epochs: save_period
seed_everything: manual_seed random_seed seed
trainer.accelerator: device
trainer.accelerator cpu: cpu no_cuda
trainer.accelerator cpu --trainer.devices: num_processes
trainer.accelerator gpu: cuda use_gpu
trainer.accelerator gpu --trainer.devices: gpu gpu_ids gpus n_gpu num_gpus
trainer.accelerator gpu --trainer.devices -1: multi_gpu
trainer.accumulate_grad_batches: accum_iter accum_steps accumulate grad_accum_steps gradient_accumulation_steps
trainer.callbacks+=EMA: ema model_ema swa
trainer.callbacks+=EMA --trainer.callbacks.decay: ema_decay model_ema_decay
trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss: early_stopping
trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss --trainer.callbacks.patience: patience
trainer.callbacks+=GradualUnfreezing --trainer.callbacks.every: freeze_epochs
trainer.callbacks+=GradualUnfreezing --trainer.callbacks.every 2: freeze freeze_backbone
trainer.callbacks+=SAM: sam
trainer.callbacks+=TQDMProgressBar --trainer.callbacks.refresh_rate: progress_bar_refresh_rate
trainer.default_root_dir: log_dir logdir out out_dir output output_dir project save_dir
trainer.enable_checkpointing true: checkpoint_callback
trainer.enable_model_summary true: weights_summary
trainer.fast_dev_run true: debug dry_run
trainer.gradient_clip_val: clip clip_grad grad_clip max_grad_norm
trainer.limit_train_batches: fraction steps_per_epoch
trainer.log_every_n_steps: log_interval logging_steps
trainer.logger: report_to
trainer.logger WandbLogger: log_wandb wandb
trainer.max_epochs: epoch epochs n_epochs num_epochs num_train_epochs
trainer.precision 16-mixed: amp fp16 half mixed_precision
trainer.precision bf16-mixed: bf16
trainer.profiler simple: profile
trainer.strategy: distributed_backend
trainer.strategy ddp: ddp
trainer.sync_batchnorm: sync_bn
trainer.val_check_interval: eval_steps
"""

VERBS_MEANT = """
--version: version
bench train: benchmark
crossval: cv
data balance: balance
data convert: convert
data dedupe: dedupe
data inspect: inspect
doctor: info
fit: train
fit --ckpt_path last: resume
predict: detect
runs lineage: lineage
runs list: list ls
runs show: show
soft_labels: soft-labels softlabels
test: evaluate
tune: search sweep
validate: eval val
"""


def read(text: str) -> dict[str, str]:
    """Return what each name means, from lines ``meaning: name name ...``."""
    lines = [line.partition(": ") for line in text.strip().splitlines()]
    return {name: meaning for meaning, _, names in lines for name in names.split()}


def test_each_name_of_others_means_one_option_of_ours() -> None:
    assert read(MEANT) == SHORT


def test_each_verb_of_others_means_one_of_ours() -> None:
    assert read(VERBS_MEANT) == VERBS

"""open_clip's own trainer, from its command line down: only what a `Job` asks for is put in.

`open_clip_train.main.main` parses its options, builds model, optimizer, schedule, loss and data,
and trains. Four of the functions that it calls are wrapped, to look on or to hold something still,
and where the job says so its AdamW is made with torch's fused kernel; none of its code is left out.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from job import BETAS, EPS, SEED, WEIGHT_DECAY, Job, Record
from open_clip_train import data, main

from selffilter.clip.model import find_architecture


def train(job: Job) -> Record:
    """Train as the job says."""
    record, losses = Record(), []
    tars = sorted(str(path) for path in Path(job.shards).glob("*.tar"))
    shards = tars[0] if len(tars) == 1 else "{" + ",".join(tars) + "}"
    name = find_architecture(job.model)

    make_loss, make_schedule = main.create_loss, main.cosine_lr
    make_model, train_one_epoch = main.create_model_and_transforms, main.train_one_epoch

    def recorded_loss(args: Any) -> Any:
        measure = make_loss(args)

        def loss(**outputs: Any) -> Any:
            found = measure(**outputs)
            losses.append(found["contrastive_loss"].detach())
            return found

        return loss

    def ticking_schedule(*args: Any) -> Any:
        adjust = make_schedule(*args)

        def at(step: int) -> Any:
            record.tick()
            return adjust(step)

        return at

    def model_with_transforms(*args: Any, **options: Any) -> Any:
        model, crop, evaluation = make_model(*args, **options)
        return model, crop if job.augment else evaluation, evaluation

    def timed_epoch(*args: Any, **options: Any) -> None:
        train_one_epoch(*args, **options)
        record.end(job)

    main.create_loss, main.cosine_lr = recorded_loss, ticking_schedule
    main.create_model_and_transforms, main.train_one_epoch = model_with_transforms, timed_epoch
    if job.fused:
        main.optim = SimpleNamespace(AdamW=functools.partial(torch.optim.AdamW, fused=True))
    if job.in_order:
        # Buffers of one sample: what comes in goes out.
        data._SAMPLE_SHUFFLE_SIZE = data._SAMPLE_SHUFFLE_INITIAL = 1
        data._SHARD_SHUFFLE_SIZE = data._SHARD_SHUFFLE_INITIAL = 1
    with tempfile.TemporaryDirectory() as scratch:
        options = {
            "--train-data": shards,
            "--train-num-samples": job.steps * job.batch_size,
            "--dataset-type": "webdataset",
            "--model": name,
            "--precision": "fp32",
            "--device": "cpu",
            "--epochs": 1,
            "--batch-size": job.batch_size,
            "--workers": job.workers,
            "--lr": job.learning_rate,
            "--warmup": job.warmup_steps,
            "--lr-scheduler": "cosine",
            "--beta1": BETAS[0],
            "--beta2": BETAS[1],
            "--eps": EPS,
            "--wd": WEIGHT_DECAY,
            "--seed": SEED,
            "--accum-freq": 1,
            "--log-every-n-steps": 10,
            "--logs": "none",
            "--name": "bench",
            "--zeroshot-frequency": 0,
        }
        if job.weights is not None:
            options["--pretrained"] = job.weights
        record.begin()
        # It writes below the working folder; "none" keeps it from writing checkpoints.
        with contextlib.chdir(scratch):
            main.main([str(word) for option in options.items() for word in option])
    record.losses = [float(loss) for loss in losses]
    return record

"""Peak memory and step time by how many rows are encoded at a time, at one global batch.

    python benchmarks/training/feature_caching.py [--batch 128] [--micro all 64 32 16 8]

Each size in a process of its own, on one thread of the CPU: the trainer's module with AdamW takes
steps on a ViT of 64 pixels and 4 layers. Memory is the peak of the resident set above what it was
before the first step; time is that of the fastest step but the first.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import time
import warnings

MODEL = {
    "embed_dim": 256,
    "vision_cfg": {
        "image_size": 64, "layers": 4, "width": 256, "head_width": 64, "patch_size": 8,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 1000, "width": 256, "heads": 4, "layers": 4},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--micro", nargs="+", default=["all", "64", "32", "16", "8"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.batch, args.steps, args.one)))
        return
    print(f"global batch {args.batch}, one rank, fp32")
    print(
        f"{'rows at once':>14} {'peak MB':>8} {'ratio':>6} {'s/step':>7} {'ratio':>6} {'loss':>10}"
    )
    first = None
    for micro in args.micro:
        command = [sys.executable, __file__, "--batch", str(args.batch)]
        command += ["--steps", str(args.steps), "--one", micro]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        first = first or found
        print(
            f"{micro:>14} {found['mb']:>8,.0f} {found['mb'] / first['mb']:>6.2f} "
            f"{found['s']:>7.2f} {found['s'] / first['s']:>6.2f} {found['loss']:>10.6f}"
        )


def measure(batch: int, steps: int, micro: str) -> dict[str, float]:
    import lightning as L
    import torch
    from open_clip.model import CLIP

    from selffilter.training.module import ClipTraining, adamw, fresh_ema

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = CLIP(**MODEL, output_dict=True)
    data = {
        "image": torch.randn(batch, 3, 64, 64),
        "text": torch.randint(1, 1000, (batch, 32)),
        "valid": torch.ones(batch, dtype=torch.bool),
    }
    module = ClipTraining(
        model,
        lambda of: adamw(of, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2),
        lambda step: 1e-4,
        seed=0,
        first_step=0,
        ema=fresh_ema(model),
        ema_decay=0.999,
        micro_batch_size=None if micro == "all" else int(micro),
    )

    class Clock(L.Callback):
        ends: list[float] = []  # noqa: RUF012
        loss = 0.0

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.ends.append(time.perf_counter())
            self.loss = float(outputs["loss"])

    clock = Clock()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[clock],
    )  # fmt: skip
    # ru_maxrss is in KiB on Linux.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.fit(module, torch.utils.data.DataLoader([data] * steps, batch_size=None))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = [b - a for a, b in zip(clock.ends, clock.ends[1:])]  # noqa: B905
    return {"mb": (peak - before) / 1024, "s": min(taken), "loss": clock.loss}


if __name__ == "__main__":
    main()

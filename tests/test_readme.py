"""The README's commands do what it says, on a smaller scale."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
SMALLER = [
    "rounds.samples_seen=96", "rounds.count=2", "train.global_batch_size=16",
    "train.warmup_steps=1", "score.bank_size=32", "track.wandb=disabled", "hardware.workers=0",
    "hardware.precision=32-true", "hardware.accelerator=cpu",
]  # fmt: skip


def test_it_names_the_commands_for_the_main_job_and_for_the_tests() -> None:
    tests = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1]
    assert tests.startswith("pytest")
    assert {"pip install -e .", "selffilter demo", "pip install -e '.[dev]'", tests} <= set(
        COMMANDS
    )


def test_its_links_and_pictures_are_there() -> None:
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#]+)\)", prose)
    assert len(targets) > 5
    for target in targets:
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_its_loop_is_the_loop_of_run_py() -> None:
    code = (ROOT / "selffilter" / "run.py").read_text(encoding="utf-8")
    shown = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert shown
    for line in shown[1].splitlines():
        part = line.split("#")[0].strip().replace("config, steps", "context.config, steps")
        part = part.replace("round_steps(config)", "round_steps(context.config)")
        assert part in code, part


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a newcomer has it after cloning, with /data/shards stood in for."""
    place = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "configs", place / "configs")
    lay_out = "from selffilter.pool.demo import lay_out_demo; from pathlib import Path; "
    lay_out += "print(lay_out_demo(Path('data'), 0.5, 0))"
    home = subprocess.run(
        [sys.executable, "-c", lay_out], cwd=place, capture_output=True, text=True
    )
    shards = place / "shards"
    shards.mkdir()
    shutil.copy(place / home.stdout.strip() / "pool" / "00000.tar", shards)
    return place


def run_readme_command(line: str, place: Path) -> subprocess.CompletedProcess[str]:
    words = [w.replace("/data/shards", str(place / "shards")) for w in shlex.split(line)]
    words[0] = str(Path(sys.executable).with_name(words[0]))
    if "--nproc-per-node" in words:
        words[words.index("--nproc-per-node") + 1] = "2"
        words.insert(1, "--standalone")
    if any(w.endswith("img2dataset.yaml") for w in words) or "demo" in words:
        model = ROOT / "configs" / "models" / "tiny.json"
        words += [*SMALLER, f"model.name={model}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        words, cwd=place, capture_output=True, text=True, timeout=500, env=environment
    )


def test_its_commands_run(place: Path) -> None:
    ran = [line for line in COMMANDS if line.startswith(("selffilter", "torchrun"))]
    assert len(ran) >= 6
    for line in ran:
        done = run_readme_command(line, place)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert (place / "runs" / "frozen" / "final" / "subset.npy").exists()

"""Take pictures of pages in a headless Chromium, as they stand in the documentation.

python benchmarks/report_pictures.py runs/demo-noise50-seed0 docs/figures
python benchmarks/report_pictures.py runs/loop-* runs/uniform-* docs/figures

Of one run its report: report_top.png, report_samples.png (light) and report_map.png (dark). Of
several those of `selffilter compare`: compare_top.png, compare_curves.png (light) and
compare_agreement.png (dark).
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from selffilter.comparing.command import run_compare
from selffilter.errors import UserError
from selffilter.reporting.command import run_report
from selffilter.store import write_atomically
from selffilter.tracking.console import Screen

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OF_A_REPORT = {  # name: the section alone (none: the page from its top), width, height, dark
    "top": (None, 1120, 690, False),
    "samples": ("samples", 1120, 800, False),
    "map": ("map", 1120, 480, True),
}
OF_A_COMPARISON = {
    "top": (None, 1120, 860, False),
    "curves": ("curves", 1120, 720, False),
    "agreement": ("agreement", 1120, 620, True),
}
MOST_BYTES = 300_000


def main(runs: list[Path], out: Path) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        print(f"no pictures: none of {', '.join(BROWSERS)} is installed.")
        return
    kind, pictures = ("report", OF_A_REPORT) if len(runs) == 1 else ("compare", OF_A_COMPARISON)
    with tempfile.TemporaryDirectory() as folder:
        page = write_page(runs, Path(folder))
        for name, where in pictures.items():
            image = take(browser, page, Path(folder) / name, *where)
            path = out / f"{kind}_{name}.png"
            data = small(image)
            write_atomically(path, lambda file, data=data: file.write(data))
            print(f"wrote {path}: {len(data):,} bytes")


def write_page(runs: list[Path], folder: Path) -> Path:
    if len(runs) == 1:
        return run_report(runs[0], folder / "report.html", samples=24, screen=Screen())
    run_compare(
        runs, folder, round_=None, metric=None, samples=0, as_json=False, screen=Screen(quiet=True)
    )
    return folder / "compare.html"


def take(
    browser: str, page: Path, aside: Path, section: str | None, width: int, height: int, dark: bool
):
    """Start a browser of its own, without network, for one picture."""
    picture, shown = aside.with_suffix(".png"), aside.with_suffix(".html")
    shown.write_text(only(page.read_text(encoding="utf-8"), section), encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--hide-scrollbars", f"--user-data-dir={aside}", f"--window-size={width},{height}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--screenshot={picture}",
        shown.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    if not picture.exists():
        raise UserError(f"{browser} has taken no picture:\n{done.stderr[-2000:]}")
    return Image.open(picture).convert("RGB")


def only(html: str, section: str | None) -> str:
    """Leave one section of a page; None: all of it."""
    if section is None:
        return html
    head = html[: html.index("<body>")]
    begin = html.index(f'<section id="{section}">')
    end = html.find('<section id="', begin + 1)
    return f"{head}<body><main>{html[begin:end]}</main></body></html>"


def small(image) -> bytes:
    """Write a PNG of as many colours as fit into the bound."""
    for colours in (256, 128, 64, 32):
        out = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        if out.tell() <= MOST_BYTES:
            return out.getvalue()
    raise UserError(f"a picture of {image.size} does not fit into {MOST_BYTES:,} bytes.")


if __name__ == "__main__":
    *named, folder = map(Path, sys.argv[1:])
    main(named, folder)

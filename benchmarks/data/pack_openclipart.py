"""Pack webdataset tars of openclipart into the Parquet files that ship in selffilter/assets.

python benchmarks/data/pack_openclipart.py POOL_DIR EVAL_DIR
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds

ASSETS = Path(__file__).resolve().parents[2] / "selffilter" / "assets"


def samples(folder: Path):
    tars = sorted(str(path) for path in folder.glob("*.tar"))
    return wds.WebDataset(tars, shardshuffle=False)


def write(table: pa.Table, name: str) -> None:
    pq.write_table(
        table, ASSETS / name, compression="zstd", compression_level=19, row_group_size=4096
    )


def main(pool: Path, evaluation: Path) -> None:
    rows = []
    for sample in samples(pool):
        about = json.loads(sample["json"])
        rows.append(
            {
                "uid": about["uid"],
                "image": sample["webp"],
                "caption": sample["txt"].decode(),
                "label": about.get("label"),
                "source": about["source"],
                "url": about["url"],
                "license": about["license"],
            }
        )
    write(pa.Table.from_pylist(rows), "openclipart.parquet")
    rows = [{"cls": int(s["cls"]), "image": s["webp"]} for s in samples(evaluation / "test")]
    write(pa.Table.from_pylist(rows), "openclipart_eval.parquet")
    texts = {
        "classnames": (evaluation / "classnames.txt").read_text().splitlines(),
        "templates": (evaluation / "zeroshot_classification_templates.txt")
        .read_text()
        .splitlines(),
    }
    (ASSETS / "openclipart_eval.json").write_text(json.dumps(texts, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Looking up a model to train."""

import json

import open_clip
import pytest

from selffilter.clip.model import find_recipe
from selffilter.errors import UserError

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {
        "context_length": 8, "width": 16, "heads": 2, "layers": 1, "hf_tokenizer_name": "some/name",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'transformers'"), "pip install transformers"),
        (OSError("cannot reach the hub"), "cannot be loaded: cannot reach the hub"),
    ],
)
def test_a_tokenizer_that_cannot_be_had_is_said_before_anything_begins(
    error, said, tmp_path, monkeypatch
):
    path = tmp_path / "with-tokenizer.json"
    path.write_text(json.dumps(MODEL))

    def fail(name):
        raise error

    monkeypatch.setattr(open_clip, "get_tokenizer", fail)
    with pytest.raises(UserError, match=said):
        find_recipe(str(path))

import pytest

from selffilter.pool.hub import hub_page

DATASET = "https://huggingface.co/datasets/someone/pairs"


@pytest.mark.parametrize("ending", ["", "/", "/tree/main", "/tree/main/", "/resolve/main"])
def test_a_data_sets_page_stands_for_its_files(ending):
    page = hub_page(DATASET + ending)
    assert page.name == "pairs"
    assert page.files_url == f"{DATASET}/resolve/main"
    assert page.listed_url == "hf://datasets/someone/pairs@main"


def test_a_branch_and_a_folder_are_kept():
    page = hub_page(f"{DATASET}/tree/v2/data/train")
    assert page.name == "train"
    assert page.files_url == f"{DATASET}/resolve/v2/data/train"
    assert page.listed_url == "hf://datasets/someone/pairs@v2/data/train"


@pytest.mark.parametrize(
    "url",
    ["https://huggingface.co/someone/model", "https://huggingface.co/datasets/one",
     f"{DATASET}/blob/main/a.tar", "https://other.org/datasets/a/b", "/datasets/a/b"],
)  # fmt: skip
def test_other_addresses_are_none(url):
    assert hub_page(url) is None

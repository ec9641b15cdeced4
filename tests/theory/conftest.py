"""Shared pools, drawn once."""

import pytest

from selffilter.theory import BimodalModel, Pool


@pytest.fixture(scope="session")
def paper_pool() -> Pool:
    """The setting of the published table."""
    return Pool(BimodalModel(clean_share=0.3), 10_000, seed=7)

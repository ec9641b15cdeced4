"""What is installed with selffilter: bounds on both sides, and a set that was tested."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]
TESTED = {
    canonicalize_name(name): Version(version)
    for name, _, version in (
        line.partition("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}
ONLY_FOR_A_CHECK = {"clip-benchmark", "gcsfs"}
"""Extras that are not installed where the tests run."""


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_dependency_is_bounded_below_and_above(requirement):
    bounds = {specifier.operator for specifier in requirement.specifier}
    # An extra may narrow what is bounded elsewhere.
    assert bounds == {">=", "<"} or bounds == {"=="} or str(requirement) == "numpy<2.4"


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_the_tested_version_of_every_dependency_is_inside_of_its_bounds(requirement):
    name = canonicalize_name(requirement.name)
    if name in ONLY_FOR_A_CHECK or str(requirement) == "numpy<2.4":
        assert name not in TESTED or name == "numpy"
    else:
        assert requirement.specifier.contains(TESTED[name])


def test_none_of_the_versions_known_to_be_unsafe_can_be_installed():
    of = {canonicalize_name(one.name): one.specifier for one in DIRECT if one.specifier}
    for name, version in (
        ("lightning", "2.6.2"), ("lightning", "2.6.3"), ("lightning", "2.6.5"),
        ("torch", "2.5.1"), ("pillow", "11.2.1"), ("omegaconf", "2.3.0"),
    ):  # fmt: skip
        assert not of[name].contains(version), name

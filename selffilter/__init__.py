"""selffilter: CLIP models that clean their own training data, round by round."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selffilter.standalone.notebook import select as select

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "select":  # late: `import selffilter` costs nothing
        from selffilter.standalone.notebook import select

        return select
    raise AttributeError(f"module 'selffilter' has no attribute {name!r}")

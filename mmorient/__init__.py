"""The toolkit around MM-ORIENT: everything a person does with tables of memes and models.

`from mmorient import train, predict, score` gives the commands as functions (`functions.py`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmorient.functions import predict, score, train

__all__ = ["predict", "score", "train"]


def __getattr__(name: str) -> Any:
    """Load the functions when they are asked for: `import mmorient` alone loads neither torch nor tables."""
    if name in __all__:
        from mmorient import functions

        return getattr(functions, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

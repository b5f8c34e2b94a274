"""The card of a model that nobody published, from a stored run of the quick start.

python -m tests.mmorient.publishing.card_example     # writes model_card.md again
"""

import json
from pathlib import Path

from mmorient.publishing.card import CardContent, render_card
from mmorient.publishing.examples import WidgetExample

CARD = Path(__file__).parents[3] / "model_card.md"
STORED = Path(__file__).with_name("card_example.json")


def example_card() -> str:
    """The card of the stored run."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    return render_card(
        CardContent(**{**stored, "examples": [WidgetExample(**example) for example in stored["examples"]]})
    )


if __name__ == "__main__":
    CARD.write_text(example_card(), encoding="utf-8")

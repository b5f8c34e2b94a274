"""What the rows of a run are for."""

# To train on, to choose on, to score on, and those that become the model's references.
SPLITS = ("training", "validation", "test", "references")

"""What tests of models with references agree on."""

# Of the references that `make_known` gives a model.
IDS = [f"m{number}" for number in range(12)]

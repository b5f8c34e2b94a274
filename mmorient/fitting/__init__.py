"""Fitting: from a recipe to a trained model."""

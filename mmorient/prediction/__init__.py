"""Prediction: a saved model and a table in, a table out."""

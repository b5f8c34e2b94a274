"""Recipes: the arguments of a run, read and checked."""

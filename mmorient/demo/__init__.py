"""Demo: a model in the browser, here or as a Space."""

"""Kinds of tasks: what each means to tables, scores, reports and predictions, in one class a kind."""

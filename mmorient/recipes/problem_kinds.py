"""Kinds of problems of a table that a recipe may allow."""

# By kind, the name that `allow` lists: what becomes of the rows when the run goes on.
PROBLEM_KINDS = {
    "malformed_rows": "the rows are left out",
    "missing_pictures": "the rows count as having no picture",
    "unreadable_pictures": "the rows count as having no picture",
    "unknown_labels": "the cells count as not labelled",
    "empty_rows": "the rows are left out",
    "split_duplicates": "the rows stay, and the score is flattered by memes that were trained on",
}

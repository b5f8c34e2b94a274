"""Answers over HTTP: a handler for endpoints and a server, which also run from a published model's files."""

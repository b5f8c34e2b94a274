"""Sample memes, drawn by a program."""

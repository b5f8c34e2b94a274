"""A trained model as a repository: its files, its card, and the upload to the Hub."""

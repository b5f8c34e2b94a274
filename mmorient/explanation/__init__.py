"""Explanation: pages about single memes."""

"""Commands: a module each, which parses arguments and prints; the rooms below do the work."""

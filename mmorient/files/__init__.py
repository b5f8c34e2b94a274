"""Files: written atomically, and failures of the disk explained in one line."""

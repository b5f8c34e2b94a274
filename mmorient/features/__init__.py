"""Features: batches for the encoders, and the cache of what frozen ones give."""

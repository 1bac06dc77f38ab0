"""A jail's actions: which are ours to enforce, and the runner of all others."""

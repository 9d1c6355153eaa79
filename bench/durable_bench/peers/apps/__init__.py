"""The counter as the documentation of each peer writes it; it runs in the environment of that peer, not in ours."""

"""Where state rests: the store contract, its three implementations, and the codec of states."""

"""The life of a sale as a state machine: random interleavings of two processes, checked after every step."""

"""The monkey: a crowd buys from a house that is broken in every known way, and at the end the books must be right."""

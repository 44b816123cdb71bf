"""What the operator does with a service as a whole: back it up, and put it back."""

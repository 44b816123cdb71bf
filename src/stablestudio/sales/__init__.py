"""The sale: verify, claim, settle, commit; and the reconciler that finishes what a stop left open."""

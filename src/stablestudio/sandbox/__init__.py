"""The embedded world: a ledger that behaves like a chain, and a provider that renders real files."""

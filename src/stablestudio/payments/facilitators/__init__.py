"""Facilitators: others who settle x402 payments for us."""

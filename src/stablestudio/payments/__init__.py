"""The ways to be paid: offers, rails, outcomes, refunds."""

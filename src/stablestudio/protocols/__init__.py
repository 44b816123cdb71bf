"""Messages and signatures of the payment and sign-in protocols: pure functions, used by the seller and the buyer."""

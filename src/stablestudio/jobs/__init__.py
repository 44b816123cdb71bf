"""The making of paid orders: decisions, durable steps, the engine that runs them, the sweep that misses nobody."""

"""x402 on EVM networks: EIP-3009 tokens, settled with an own gas key or by facilitators."""

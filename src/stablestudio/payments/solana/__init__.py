"""x402 on Solana: SPL transfers that a fee payer completes."""

"""MPP on Tempo: signed TIP-20 transfers that we send."""

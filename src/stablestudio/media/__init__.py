"""Media in and out: guarded fetch, probing, thumbnails, storage and signed links."""

"""One file per model family; adding a model to a family is one `Model` in its `MODELS`."""

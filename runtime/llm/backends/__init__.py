"""Chat backends: one module a kind of settings, each imported only when a model of its kind is opened."""

"""The Searcher: finds passages in stored texts."""

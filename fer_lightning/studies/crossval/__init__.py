"""Arms compared over folds and seeds."""

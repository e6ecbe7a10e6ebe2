"""From a table to batches on a device."""

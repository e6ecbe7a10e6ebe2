"""What a run leaves on a disk, and the one reader of it."""

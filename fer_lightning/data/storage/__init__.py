"""How sets are converted: written as Arrow, shards, folders, Parquet or pixel CSV, and described."""

"""One row for each sample: the table, its columns, its images and its files."""

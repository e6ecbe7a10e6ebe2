"""What a data set looks like: statistics, findings, pictures and pages."""

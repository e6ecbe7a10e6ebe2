"""The data sets: one file or folder for each."""

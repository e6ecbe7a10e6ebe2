"""What is measured, drawn and written down about a trained classifier."""

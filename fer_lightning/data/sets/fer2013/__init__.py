"""FER2013 in its forms, and FER+, its labels by ten people."""

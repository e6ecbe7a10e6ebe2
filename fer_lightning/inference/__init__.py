"""From a face to an answer: detectors, model folders, the recognizer."""

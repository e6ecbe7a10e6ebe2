"""Scores of a trained model on the test split: python docs/scripts/evaluate.py runs/quickstart/version_0"""

import sys

from fer_lightning import evaluate

scores = evaluate(sys.argv[1])
print(scores)
print(scores["accuracy"], scores.folder)

"""Which of two models is better: python docs/scripts/compare.py runs/plain/version_0 runs/focus/version_0"""

import sys

from fer_lightning import compare

found = compare(*sys.argv[1:])
print(found)
print(list(found))

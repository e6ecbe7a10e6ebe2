"""How a model does on groups of people: python docs/scripts/audit.py runs/quickstart/version_0"""

import sys

from fer_lightning import audit

found = audit(sys.argv[1], groups=["gender"])
print(found)
print(list(found))

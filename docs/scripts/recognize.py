"""The expressions in a picture: python docs/scripts/recognize.py photo.jpg"""

import sys

from fer_lightning import Recognizer

recognizer = Recognizer.load()  # the model that comes along; of your own: Recognizer.load("runs/mine/version_0")
print(recognizer)
result = recognizer(sys.argv[1])
print(result)
for face in result:
    print(face.label, f"{face.confidence:.0%}", face.box, face.probabilities)
